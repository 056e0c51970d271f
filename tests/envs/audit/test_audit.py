"""The audit passes what is sound and catches planted faults."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.audit.core import Finding, Subject, audit
from turnhalle.envs.audit.worth import mutations
from turnhalle.envs.env import TextEnv
from turnhalle.envs.errors import ConfigError, UnknownNameError
from turnhalle.envs.registry import EnvFactory, resolve, resolve_all
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


class OpensFiles(Sound):
    """Leaves a file open in every episode."""

    left: list[Any] = []  # noqa: RUF012

    def start(self) -> str:
        self.left.append(open(__file__, encoding="utf-8"))  # noqa: SIM115
        return str(super().start())


class StartsProcesses(Sound):
    """Leaves a process behind in some episodes."""

    left: list[Any] = []  # noqa: RUF012

    def start(self) -> str:
        if len(self.left) < 60:
            self.left.append(subprocess.Popen(["sleep", "100"]))
        return str(super().start())


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


def failed(factory: EnvFactory, *only: str) -> set[str]:
    return {f.check for f in audit(Subject(factory, is_quick=True), only) if not f.is_ok}


@pytest.mark.parametrize("id", sorted(th.registered()))
def test_every_registered_environment_passes(id: str) -> None:
    assert not [f for f in audit(Subject(resolve(id), is_quick=True)) if not f.is_ok]


@pytest.mark.slow
@pytest.mark.parametrize("id", sorted(th.registered()))
def test_every_registered_environment_passes_the_full_audit(id: str) -> None:
    assert not [f for f in audit(Subject(resolve(id))) if not f.is_ok]


def test_a_sound_environment_passes_every_check() -> None:
    findings = list(audit(Subject(EnvFactory(Sound), is_quick=True)))
    assert len(findings) == 20
    assert {finding.verdict for finding in findings} == {"ok"}, findings


@pytest.mark.parametrize(
    ("cls", "check"),
    [
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
    ],
)
def test_planted_faults_are_caught(cls: type[TextEnv], check: str) -> None:
    try:
        assert check in failed(EnvFactory(cls), check)
    finally:
        if cls is StartsThreads:
            StartsThreads.stop.set()
        while OpensFiles.left:
            OpensFiles.left.pop().close()
        while StartsProcesses.left:
            StartsProcesses.left[-1].kill()
            StartsProcesses.left.pop().wait()
        HoardsBytes.seen.clear()


def test_an_environment_without_an_oracle_fails_that_check_only() -> None:
    class NoOracle(Sound):
        """Knows no answer."""

        oracle = TextEnv.oracle

    assert failed(EnvFactory(NoOracle)) == {"oracle"}


def test_a_bug_in_the_environment_is_a_finding_of_every_check_it_breaks() -> None:
    class Broken(Sound):
        """Misspells a key."""

        def oracle(self) -> str:
            return str(self.instance["m"])

    findings = {f.check: f for f in audit(Subject(EnvFactory(Broken), is_quick=True))}
    assert len(findings) == 20
    assert "KeyError: 'm'" in findings["oracle"].detail
    assert findings["api"].is_ok


def test_held_out_tasks_that_are_listed_and_never_drawn_are_sound() -> None:
    class Listed(HoldsNothingOut):
        """Draws none of its list."""

        def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
            return {"n": rng.randrange(100, 10_000)}

    [finding] = audit(Subject(EnvFactory(Listed)), ["splits"])
    assert finding.verdict == "ok"
    assert "40 in test (test listed)" in finding.detail


def test_options_that_do_not_fit_are_one_error_and_no_findings() -> None:
    with pytest.raises(ConfigError, match="difficulty goes from 1 to 6, got 9"):
        list(audit(Subject(resolve("pacman", difficulty=9))))


def test_right_answers_beside_the_oracles_can_be_declared() -> None:
    class Even(Sound):
        """Say an even number."""

        def respond(self, action: str) -> th.Reply:
            n = th.parse_int(action)
            right = n is not None and n % 2 == 0
            return th.End("", success=right, reward=float(right))

        def oracle(self) -> str:
            return str(2 * int(self.instance["n"]))

    class SaysWhatIsWrong(Even):
        """Say an even number."""

        def near_misses(self, answer: str) -> list[str]:
            return [str(int(answer) + 1)]

    assert failed(EnvFactory(Even), "mutants")
    assert not failed(EnvFactory(SaysWhatIsWrong), "mutants")


def test_a_budget_ends_the_audit_and_says_what_is_unchecked() -> None:
    def findings() -> Iterator[Finding]:
        return audit(Subject(EnvFactory(Sound), budget_s=0.2))

    verdicts = {finding.check: finding.verdict for finding in findings()}
    assert verdicts["api"] == "ok"
    assert verdicts["speed"] == "unchecked"
    assert any("budget" in finding.detail for finding in findings())


@pytest.mark.parametrize("answer", ["42", "-3", "0", "0.50", "the 12th of May", "left", "3 dogs"])
def test_mutations_are_all_different_from_the_answer(answer: str) -> None:
    mutants = list(mutations(answer))
    assert len(mutants) > 3
    assert answer not in mutants
    assert len(set(mutants)) == len(mutants)
    assert "" in mutants


def test_a_folder_stands_for_all_its_environments(tmp_path: Path) -> None:
    source = "import turnhalle as th\nclass {0}(th.TextEnv):\n    'Nothing.'\n"
    for name in ("One", "Two"):
        (tmp_path / f"{name.lower()}.py").write_text(source.format(name), encoding="utf-8")
    assert [factory.cls.__name__ for factory in resolve_all(str(tmp_path))] == ["One", "Two"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownNameError, match="no TextEnv in the 0 Python files"):
        resolve_all(str(tmp_path / "empty"))


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


def test_servers_are_used_again_by_the_audit_and_that_must_not_matter() -> None:
    found = list(audit(Subject(EnvFactory(Outside, None, {}), is_quick=True)))
    assert [finding.check for finding in found if not finding.is_ok] == []
    assert Outside.opened < 30  # there are about 250 episodes in it
    cls = OutsideAndRemembers
    [finding] = audit(Subject(EnvFactory(cls, None, {}), is_quick=True), ["determinism"])
    assert not finding.is_ok
