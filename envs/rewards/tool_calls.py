"""Tool calls that can be read, of tools that exist, with the arguments that they take."""

from __future__ import annotations

from typing import Any

from ..errors import RewardError
from ..tools.canonical import parse_action, render_call
from ..tools.faults import MALFORMED, FaultKind
from .base import Fixture, Reward, Sample, Score


class ToolCalls(Reward):
    """The share of valid calls among an action's calls; silent where it makes none.

    Reads `info["faults"]`, the faults of the step counted by kind, as a tool environment tells them
    (`ToolEnv.count_faults()`) and every record keeps them; silent without it. A call that was
    refused by the world or crashed is valid; of a turn with more calls than are answered nobody
    knows, so it earns 0.
    """

    name = "tool_calls"

    def score(self, sample: Sample) -> Score:
        """From 0 to 1.

        Raises:
            RewardError: More calls went wrong than the action makes.
        """
        written = len(parse_action(sample.action).items)
        faults = sample.info.get("faults")
        if not written or faults is None:
            return None
        if FaultKind.TOO_MANY_CALLS in faults:
            return 0.0
        wrong = sum(faults.get(kind, 0) for kind in MALFORMED - {FaultKind.NO_CALL})
        if wrong > written:
            raise RewardError(f"{self.name}: {faults} are not the faults of {written} calls")
        return 1 - wrong / written

    def fixtures(self) -> list[Fixture]:
        """A valid call, a refused one, an unknown tool, no JSON, no call, nobody looked."""
        call = render_call("price", item="fig")
        return [
            Fixture.of("full", _found(call), 1.0),
            Fixture.of("full", _found(call, refused=1), 1.0),
            Fixture.of("zero", _found(render_call("prize"), unknown_tool=1), 0.0),
            Fixture.of("zero", _found(call * 9, too_many_calls=1), 0.0),
            Fixture.of("malformed", _found("<tool_call>{price</tool_call>", bad_json=1), 0.0),
            Fixture.of("malformed", _found("price fig", no_call=1), None),
            Fixture.of("malformed", Sample(call), None),
        ]


def _found(action: str, **faults: Any) -> Sample:
    return Sample(action, info={"faults": faults})
