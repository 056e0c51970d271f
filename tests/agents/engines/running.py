"""What tests of both engines share."""

from __future__ import annotations

from turnhalle.agents.engines.base import Completion, Engine, Request


def run(engine: Engine, requests: list[Request]) -> dict[int, Completion]:
    """Submit turns and let the engine advance until all are done; completions by session."""
    for request in requests:
        engine.submit(request)
    done: dict[int, Completion] = {}
    while len(done) < len(requests):
        done |= {completion.session: completion for completion in engine.step()}
    return done
