"""A sound environment, and one for each fault that the audit has to catch."""

from __future__ import annotations

import random
import subprocess
import threading
from dataclasses import replace
from typing import Any

import turnhalle as th
from turnhalle.envs.spaces import UnicodeText
from turnhalle.envs.tasks import canonical


class Sound(th.TextEnv):
    """Say the double of the number."""

    max_turns = 3

    @property
    def right(self) -> str:
        return str(2 * self.instance["n"])

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        return f"Number {self.instance['n']}"

    def respond(self, action: str) -> th.Reply:
        if action == self.right:
            return th.End("yes", success=True, reward=1.0)
        return th.Reply("no")

    def oracle(self) -> str:
        return self.right


@th.reward(full=th.Sample("a"), zero=th.Sample("b"), malformed=th.Sample(""))
def _always_one(sample: th.Sample) -> float:
    return 1.0


class IgnoresItsSeed(Sound):
    """Asks the clock."""

    def respond(self, action: str) -> th.Reply:
        return th.Reply(str(random.SystemRandom().random()))


class SharesState(Sound):
    """All environments count together."""

    count = 0

    def respond(self, action: str) -> th.Reply:
        type(self).count += 1
        return th.Reply(f"turn {type(self).count % 7}")


class ForksBadly(Sound):
    """Its state leaves something out."""

    def start(self) -> str:
        self.said = 0
        return super().start()  # type: ignore[return-value]

    def respond(self, action: str) -> th.Reply:
        self.said += 1
        return th.Reply(str(self.said))

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        self.said = 0


class Unsolvable(Sound):
    """Its oracle is wrong."""

    def oracle(self) -> str:
        return "no idea"


class PaysTooLittle(Sound):
    """Its oracle earns less than declared."""

    reward_range = (0.0, 2.0)


class PaysNothing(Sound):
    """Pays the null policy."""

    def respond(self, action: str) -> th.Reply:
        return th.Reply("here you are", reward=0.1)


class WinsForNothing(Sound):
    """Lets the null policy win."""

    def respond(self, action: str) -> th.Reply:
        return th.End("well done", success=True, reward=1.0)


class TooSmall(Sound):
    """Has three tasks."""

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(3)}


class HoldsNothingOut(Sound):
    """Its held-out list holds what is drawn for training."""

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(50)}

    def listed(self, split: str, difficulty: int) -> list[dict[str, Any]] | None:
        return [{"n": n} for n in range(40)] if split == "test" else None


class HashesItsSeed(Sound):
    """Depends on the process."""

    def start(self) -> str:
        return f"Number {self.instance['n']} {hash(str(self.instance['n']))}"


class UsesGlobalRandom(Sound):
    """Draws from the random generator of everybody."""

    def start(self) -> str:
        random.random()
        return str(super().start())


class ShowsItsSolution(Sound):
    """Tells after the first attempt."""

    def respond(self, action: str) -> th.Reply:
        reply = super().respond(action)
        return reply if isinstance(reply, th.End) else th.Reply(f"no, it is {self.right}")


class ShowsItsMarkedAnswer(Sound):
    """Writes the answer into the question; the oracle shows its work before it."""

    def start(self) -> str:
        return f"{super().start()} (it is {self.right})"

    def respond(self, action: str) -> th.Reply:
        return super().respond(action.rpartition("####")[2].strip())

    def oracle(self) -> str:
        n = self.instance["n"]
        return f"{n}+{n}={self.right} #### {self.right}"


class ShowsItsLastArgument(th.ToolEnv):
    """Say the double; the answer is an argument of a call."""

    draw = Sound.draw

    def start(self) -> str:

        return f"The double of {self.instance['n']} is {2 * self.instance['n']}"

    @th.tool
    def done(self, answer: int) -> th.End:
        """Answer."""
        right = answer == 2 * self.instance["n"]
        return th.End("", success=right, reward=float(right))

    def answer(self, text: str) -> th.Reply:
        return th.Reply("call done")

    def oracle(self) -> str:
        return th.render_call("done", answer=2 * self.instance["n"])


class PaysTheNeighbour(Sound):
    """Takes what is near."""

    def respond(self, action: str) -> th.Reply:
        n = th.parse_int(action)
        if n is not None and abs(n - int(self.right)) <= 1:
            return th.End("yes", success=True, reward=1.0)
        return th.Reply("no")


class FindsTheAnswerInside(Sound):
    """Takes any text that contains the answer."""

    def respond(self, action: str) -> th.Reply:
        if self.right in action:
            return th.End("yes", success=True, reward=1.0)
        return th.Reply("no")


class ObeysTheAction(Sound):
    """Believes what it is told."""

    def respond(self, action: str) -> th.Reply:
        if "success=true" in action:
            return th.End("yes", success=True, reward=1.0)
        return super().respond(action)


class PaysBeyondItsRange(Sound):
    """Fines more than it declares."""

    def respond(self, action: str) -> th.Reply:
        reply = super().respond(action)
        return reply if isinstance(reply, th.End) else th.Reply("no", reward=-1.0)


class LyingRubric(Sound):
    """Its reward does not do what its fixtures say."""

    rubric = th.Rubric({_always_one: 1.0})


class FallsOverLongNumbers(Sound):
    """Calls int() on anything that looks like a number."""

    def respond(self, action: str) -> th.Reply:
        if action.isdigit() and int(action) == int(self.right):
            return th.End("yes", success=True, reward=1.0)
        return th.Reply("no")


class StartsThreads(Sound):
    """Leaves a thread behind in every episode."""

    stop = threading.Event()

    def start(self) -> str:
        threading.Thread(target=self.stop.wait, daemon=True).start()
        return str(super().start())

    @classmethod
    def clean(cls) -> None:
        cls.stop.set()


class Remembers(Sound):
    """Keeps every episode in a list of the class."""

    seen: list[list[str]] = []  # noqa: RUF012

    def start(self) -> str:
        self.seen.extend([] for _ in range(50))
        return str(super().start())


class HoardsBytes(Sound):
    """Few objects, but large ones."""

    seen: list[bytearray] = []  # noqa: RUF012

    def start(self) -> str:
        self.seen.append(bytearray(200_000))
        return str(super().start())

    @classmethod
    def clean(cls) -> None:
        cls.seen.clear()


class OpensFiles(Sound):
    """Leaves a file open in every episode."""

    left: list[Any] = []  # noqa: RUF012

    def start(self) -> str:
        self.left.append(open(__file__, encoding="utf-8"))  # noqa: SIM115
        return str(super().start())

    @classmethod
    def clean(cls) -> None:
        while cls.left:
            cls.left.pop().close()


class StartsProcesses(Sound):
    """Leaves a process behind in some episodes."""

    left: list[Any] = []  # noqa: RUF012

    def start(self) -> str:
        if len(self.left) < 60:
            self.left.append(subprocess.Popen(["sleep", "100"]))
        return str(super().start())

    @classmethod
    def clean(cls) -> None:
        while cls.left:
            cls.left[-1].kill()
            cls.left.pop().wait()


class OutgrowsItsSpace(Sound):
    """Says what its observation space does not hold."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.observation_space = UnicodeText(3)


class CountsEnvironments(Sound):
    """Asks something else in every environment that is built."""

    built = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        CountsEnvironments.built += 1
        self.number = CountsEnvironments.built

    def start(self) -> str:
        return f"{super().start()} for the {self.number}th time"


class NeverEnds(Sound):
    """Takes steps after the end."""

    def step(self, action: str) -> Any:  # type: ignore[misc]
        return ("over", 0.0, True, False, {}) if self.is_over else super().step(action)


class AsksForItsOracle(Sound):
    """Can only be stepped as the oracle would."""

    def step(self, action: str) -> Any:  # type: ignore[misc]
        assert action == self.right
        return super().step(action)


class ShowsItsInstance(Sound):
    """Tells a chat policy everything."""

    def start(self) -> Any:
        told = th.Message(role="user", content=canonical(self.instance))
        return th.Reply("Number?", messages=(told,))


class GetsSlower(Sound):
    """Counts what it has seen before each answer."""

    seen: list[int] = []  # noqa: RUF012

    def respond(self, action: str) -> th.Reply:
        self.seen.append(0)
        sum(range(200 * len(self.seen) ** 2))
        return super().respond(action)


class Outside(Sound):
    """Lives on a server: to open one is dear."""

    metadata = {**Sound.metadata, "snapshot": "none"}  # noqa: RUF012 Gymnasium declares it so
    opened = 0

    def start(self) -> str:
        if not hasattr(self, "server"):
            type(self).opened += 1
            self.server: list[int] = []
        return super().start()


class OutsideAndRemembers(Outside):
    """A server that is never brought back to where an episode begins."""

    def respond(self, action: str) -> th.Reply:
        self.server.append(self.turn)
        reply = super().respond(action)
        return replace(reply, text=f"{reply.text} {len(self.server)}")


PLANTED: list[tuple[type[th.TextEnv], str]] = [
    (IgnoresItsSeed, "determinism"),
    (SharesState, "determinism"),
    (HashesItsSeed, "processes"),
    (UsesGlobalRandom, "global rng"),
    (ForksBadly, "fork"),
    (ForksBadly, "state"),
    (TooSmall, "splits"),
    (HoldsNothingOut, "splits"),
    (ShowsItsSolution, "answer"),
    (ShowsItsMarkedAnswer, "answer"),
    (ShowsItsLastArgument, "answer"),
    (ShowsItsMarkedAnswer, "idle"),
    (Unsolvable, "oracle"),
    (PaysTooLittle, "oracle"),
    (PaysNothing, "idle"),
    (WinsForNothing, "idle"),
    (ObeysTheAction, "idle"),
    (PaysTheNeighbour, "mutants"),
    (FindsTheAnswerInside, "mutants"),
    (PaysBeyondItsRange, "rewards"),
    (LyingRubric, "rubric"),
    (FallsOverLongNumbers, "fuzz"),
    (StartsThreads, "growth"),
    (Remembers, "growth"),
    (HoardsBytes, "growth"),
    (OpensFiles, "growth"),
    (StartsProcesses, "growth"),
    (OutgrowsItsSpace, "api"),
    (AsksForItsOracle, "wrappers"),
    (CountsEnvironments, "vector"),
    (NeverEnds, "ends"),
    (ShowsItsInstance, "info"),
    (GetsSlower, "speed"),
]
"""Each fault, and the check that has to catch it."""
