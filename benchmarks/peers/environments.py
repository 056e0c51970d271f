"""What a peer's text environments do in a second: run by `peer_environments.py`, in its own venv.

Prints JSON: steps and resets a CPU-second by environment, medians of rounds. Steps are inside
episodes, resets apart, as in our own tables.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

EPISODES, ROUNDS = 300, 5
Rates = tuple[float, float]
Play = Callable[[int], tuple[float, float, int]]
"""Play one episode: CPU-seconds of its reset and of its steps, and how many steps."""


def measure(play: Play, episodes: int = EPISODES) -> Rates:
    """Steps and resets a second."""
    rounds = []
    for number in range(ROUNDS):
        played = [play(number * episodes + n) for n in range(episodes)]
        resetting, stepping, count = (sum(column) for column in zip(*played, strict=True))
        rounds.append((count / stepping, episodes / resetting))
    return statistics.median(s for s, _ in rounds), statistics.median(r for _, r in rounds)


def by_steps(
    reset: Callable[[int], Any],
    step: Callable[[str], bool],
    actions: list[str],
    clock: Callable[[], float] = time.process_time,
) -> Play:
    """An episode of the given actions, or of as many as it takes; `step` says if it is over."""

    def play(seed: int) -> tuple[float, float, int]:
        begin = clock()
        reset(seed)
        middle, count = clock(), 0
        for action in actions:
            count += 1
            if step(action):
                break
        return middle - begin, clock() - middle, count

    return play


def gem() -> dict[str, Rates]:
    import gem as library

    env = library.make("game:GuessTheNumber-v0-hard")
    words = [f"I say \\boxed{{{n}}}" for n in range(60, 66)]
    play = by_steps(lambda seed: env.reset(seed=seed), lambda a: any(env.step(a)[2:4]), words)
    return {"GEM GuessTheNumber": measure(play)}


def textarena() -> dict[str, Rates]:
    import textarena as library

    found: dict[str, Rates] = {}
    for id, episodes in (("GuessTheNumber-v0-raw", EPISODES), ("GuessTheNumber-v0", 20)):
        env = library.make(id)

        def step(action: str, env: Any = env) -> bool:
            env.get_observation()
            return bool(env.step(action)[0])

        def reset(seed: int, env: Any = env) -> None:
            env.reset(num_players=1, seed=seed)

        found[f"TextArena {id}"] = measure(
            by_steps(reset, step, [f"[{n}]" for n in (3, 17, 5, 15, 7)]), episodes
        )
    return found


def reasoning_gym() -> dict[str, Rates]:
    import reasoning_gym as library

    problems = library.create_dataset("chain_sum", seed=1, size=EPISODES * ROUNDS)
    drawn: dict[str, Any] = {}

    def reset(index: int) -> None:
        drawn["entry"] = problems[index]

    def step(answer: str) -> bool:
        problems.score_answer(answer, drawn["entry"])
        return True

    return {"reasoning-gym chain_sum (drawn, scored)": measure(by_steps(reset, step, ["12345"]))}


def openenv() -> dict[str, Rates]:
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import Action, Observation, State

    class Said(Action):
        text: str

    class Seen(Observation):
        text: str

    class Sum(Environment):  # type: ignore[type-arg]
        """One sum, many attempts."""

        SUPPORTS_CONCURRENT_SESSIONS = True

        def reset(self, seed: int | None = None, episode_id: Any = None, **kwargs: Any) -> Seen:
            self.answer = (seed or 0) % 97 + 2
            return Seen(text=f"Compute {self.answer - 2} + 2.")

        def step(self, action: Said, timeout_s: Any = None, **kwargs: Any) -> Seen:
            is_right = action.text.rpartition("#### ")[2] == str(self.answer)
            return Seen(text="right" if is_right else "wrong", reward=float(is_right), done=False)

        @property
        def state(self) -> State:
            return State()

    env = Sum()
    words = [f"I think it is #### {n}" for n in range(1000, 1006)]
    play = by_steps(
        lambda seed: env.reset(seed=seed), lambda a: bool(env.step(Said(text=a)).done), words
    )
    found = {"OpenEnv, typed, in process": measure(play)}
    return found | {"OpenEnv, its server and client (wall)": _served(Sum, Said, Seen, words)}


def _served(env: Any, action: Any, observation: Any, words: list[str]) -> Rates:
    """One session against its own server in this process, which is how OpenEnv is used."""
    import uvicorn
    from openenv.core.env_server.http_server import create_app
    from openenv.core.generic_client import GenericEnvClient

    app = create_app(env, action, observation, env_name="sum", max_concurrent_envs=4)
    config = uvicorn.Config(app, host="127.0.0.1", port=18413, log_level="error")
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    with GenericEnvClient(base_url="http://127.0.0.1:18413").sync() as client:
        play = by_steps(
            lambda seed: client.reset(seed=seed),
            lambda a: bool(client.step({"text": a}).done),
            words,
            time.perf_counter,  # two threads and a socket: CPU-seconds would flatter neither
        )
        rates = measure(play, 30)
    server.should_exit = True
    return rates


def main() -> None:
    peer = {f.__name__: f for f in (gem, textarena, reasoning_gym, openenv)}[sys.argv[1]]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = peer()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
