"""The audit passes what is sound and catches planted faults."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.audit import core
from turnhalle.envs.audit.core import Finding, Subject, audit
from turnhalle.envs.audit.worth import mutations
from turnhalle.envs.env import TextEnv
from turnhalle.envs.errors import ConfigError, UnknownNameError
from turnhalle.envs.registry import EnvFactory, resolve, resolve_all

from .planted import PLANTED, HoldsNothingOut, Outside, OutsideAndRemembers, Sound


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


@pytest.mark.parametrize(("cls", "check"), PLANTED)
def test_planted_faults_are_caught(cls: type[TextEnv], check: str) -> None:
    try:
        assert check in failed(EnvFactory(cls), check)
    finally:
        getattr(cls, "clean", lambda: None)()


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


def test_the_audit_says_what_an_experts_actions_at_random_win() -> None:
    class Coin(Sound):
        """Heads or tails?"""

        def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
            return {"n": rng.randrange(10**6), "side": rng.choice(["heads", "tails"])}

        def respond(self, action: str) -> th.Reply:
            right = action == self.instance["side"]
            return th.End("", success=right, reward=float(right))

        def oracle(self) -> str:
            return str(self.instance["side"])

    [finding] = audit(Subject(EnvFactory(Coin)), ["idle"])
    assert finding.is_ok
    assert 30 < int(finding.detail.split()[-1]) < 70
    [finding] = audit(Subject(EnvFactory(Sound)), ["idle"])
    assert finding.detail.endswith("an expert's actions at random solve 0")


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


def test_a_quick_audit_of_a_slow_world_says_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Sound):
        """Thinks about it."""

        def respond(self, action: str) -> th.Reply:
            time.sleep(0.01)
            return super().respond(action)

    monkeypatch.setattr(core, "QUICK_S", 0.2)
    [quick] = audit(Subject(EnvFactory(Slow), is_quick=True), ["fuzz"])
    assert quick.is_ok
    assert quick.seconds < 2
    assert "(a quick check ends after 0.2 s)" in quick.detail
    assert int(quick.detail.split()[0]) >= 10


@pytest.mark.parametrize("answer", ["42", "-3", "0", "0.50", "the 12th of May", "left", "3 dogs"])
def test_mutations_are_all_different_from_the_answer(answer: str) -> None:
    mutants = list(mutations(answer))
    assert len(mutants) > 3
    assert answer not in mutants
    assert len(set(mutants)) == len(mutants)
    assert "" in mutants


@pytest.mark.parametrize(
    ("answer", "near"),
    [
        ("123456789012345678901234567890123", "123456789012345678901234567890124"),
        ("-" + "9" * 5000, "-1" + "0" * 5000),  # more digits than `int` reads
        ("0." + "0" * 40 + "1", "1." + "0" * 40 + "1"),
        ("1000", "999"),
    ],
)
def test_mutations_of_long_numbers_are_plain_digits_and_exact(answer: str, near: str) -> None:
    mutants = list(mutations(answer))
    assert near in mutants
    assert not [mutant for mutant in mutants if set(mutant) - set("-.0123456789 ")]


@pytest.mark.parametrize("answer", ["42", "Saturday", "-1/2", "x^2 - 4x"])
def test_where_an_answer_is_marked_its_work_stays_as_it_is(answer: str) -> None:
    for action in (f"6*7=42 mod(34,7)=6 #### {answer}", f"6*7=42, so \\boxed{{{answer}}}."):
        mutants = list(mutations(action))
        assert len(mutants) > 4
        assert action not in mutants
        assert all(mutant.startswith("6*7=42") for mutant in mutants if mutant)


def test_a_folder_stands_for_all_its_environments(tmp_path: Path) -> None:
    source = (
        "import turnhalle as th\nclass {0}(th.TextEnv):\n    'Nothing.'\n"
        "    def draw(self, rng, difficulty): ...\n    def start(self): ...\n"
        "    def respond(self, action): ...\n"
    )
    for name in ("One", "Two"):
        (tmp_path / f"{name.lower()}.py").write_text(source.format(name), encoding="utf-8")
    assert [factory.cls.__name__ for factory in resolve_all(str(tmp_path))] == ["One", "Two"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownNameError, match="no TextEnv in the 0 Python files"):
        resolve_all(str(tmp_path / "empty"))


def test_servers_are_used_again_by_the_audit_and_that_must_not_matter() -> None:
    found = list(audit(Subject(EnvFactory(Outside, None, {}), is_quick=True)))
    assert [finding.check for finding in found if not finding.is_ok] == []
    assert Outside.opened < 30  # there are about 250 episodes in it
    cls = OutsideAndRemembers
    [finding] = audit(Subject(EnvFactory(cls, None, {}), is_quick=True), ["determinism"])
    assert not finding.is_ok
