"""`Coding-v0`: try, read, submit; rewards, states, and faults of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

import turnhalle as th
from turnhalle.agents.rollout import Job, rollout
from turnhalle.agents.scripted import scripted_policy
from turnhalle.envs.coding.families import FAMILIES, LEVELS
from turnhalle.envs.coding.grading.boxes import Boxes
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import ConfigError, SandboxError, UnknownNameError
from turnhalle.envs.registry import resolve
from turnhalle.envs.sandbox.core import Isolation, Limits, Program, RunResult, Sandbox, Status

LINE = "def f(x):\n    return {}\n"


class Recorder(Sandbox):
    """Remembers what went into the box, and says what a test wants."""

    isolation = Isolation("fake")

    def __init__(self, result: RunResult) -> None:
        self.result, self.programs = result, list[Program]()

    def run(
        self, program: Program, limits: Limits | None = None, *, on_call: Any = None
    ) -> RunResult:
        self.programs.append(program)
        return self.result

    def close(self) -> None:
        pass


def with_result(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> Recorder:
    """Let every box of this process give this result."""
    recorder = Recorder(RunResult(isolation=Isolation("fake"), **facts))
    boxes = object.__new__(Boxes)
    from turnhalle.envs.coding.grading.memory import Memory

    boxes.memory, boxes.candidates = Memory(), recorder
    monkeypatch.setattr("turnhalle.envs.coding.workbench.shared_boxes", lambda options: boxes)
    return recorder


@pytest.fixture
def env(tier: str) -> th.TextEnv:
    env = th.make("coding", families="expression", sandbox={"tier": tier, "slots": 2})
    env.reset(seed=3)
    return env


@pytest.mark.parametrize("family", FAMILIES)
def test_the_oracle_solves_every_family_and_no_mistake_does(tier: str, family: str) -> None:
    env = th.make("coding", families=[family], sandbox={"tier": tier, "slots": 2})
    for difficulty in (1, 3):
        env.reset(options={"task": 7, "difficulty": difficulty})
        observation, reward, *_ = env.step(env.oracle())
        assert (observation, reward) == ("2 of 2 examples pass", 0.0)
        assert env.step(env.oracle())[4]["success"]
        for wrong in env.instance["mistakes"]:
            env.reset(options={"task": 7, "difficulty": difficulty})
            _, reward, terminated, _, info = env.step(wrong)
            assert (reward, terminated, info["success"]) == (-1.0, True, False), wrong


def test_an_episode_reads_as_a_conversation(env: th.TextEnv) -> None:
    wrong = env.instance["mistakes"][0]
    observation, reward, terminated, _, info = env.step(th.render_call("test", code=wrong))
    assert observation.startswith("0 of 2 examples pass\nf(")
    assert ", not " in observation
    assert (reward, terminated) == (0.0, False)
    observation, *_ = env.step(th.render_call("run", code="print(1)\nprint(1 / 0)"))
    assert observation.startswith("| 1\nit raised:\n| Traceback")
    assert observation.endswith("| ZeroDivisionError: division by zero")
    observation, *_ = env.step(th.render_call("run", code="print(input())", stdin="hello"))
    assert observation == "| hello"
    observation, *_ = env.step(th.render_call("run", code="pass"))
    assert observation == "it printed nothing"
    observation, reward, terminated, _, info = env.step(env.oracle())
    assert (observation, reward, terminated) == ("The hidden tests: passed.", 1.0, True)
    assert info["parts"] == {"tests": 1.0}


def test_the_agent_is_told_that_it_may_try_code_first() -> None:
    _, info = th.make("coding").reset(seed=0)
    assert "test runs it on the examples, run runs it as it is" in info["messages"][0].content


def test_who_never_answers_has_failed(env: th.TextEnv) -> None:
    call = th.render_call("test", code=env.instance["solution"])
    rewards = [env.step(call)[1] for _ in range(4)]
    observation, reward, terminated, truncated, info = env.step(call)
    assert rewards == [0.0] * 4
    assert observation.endswith("No turns are left, and no code was given.")
    assert (reward, terminated, truncated, info["success"]) == (-1.0, True, False, False)


def test_the_fraction_pays_half_of_what_passes(tier: str) -> None:
    env = th.make(
        "coding", families="choose", reward="fraction", sandbox={"tier": tier, "slots": 2}
    )
    env.reset(seed=1)
    assert (env.reward_range, env.reward_floor) == ((0.0, 1.0), 0.5)
    some = env.instance["hidden"][:3]
    table = {test["args"][0]: test["expected"] for test in some}
    _, reward, _, _, info = env.step(LINE.format(f"{table}.get(x)"))
    assert reward == pytest.approx(0.5 * 3 / len(env.instance["hidden"]))
    assert not info["success"]
    env.reset(seed=1)
    assert env.step(env.instance["solution"])[1] == 1.0


def test_readability_is_paid_on_top_and_only_to_code_that_passes(tier: str) -> None:
    env = th.make(
        "coding", families="expression", readability=0.5, sandbox={"tier": tier, "slots": 2}
    )
    assert env.reward_range == (-1.0, 1.5)
    env.reset(seed=3)
    solution = env.instance["solution"]
    assert env.step(solution)[4]["parts"] == {"tests": 1.0, "readability": 0.5}
    env.reset(seed=3)
    ugly = env.step("import os, sys;l=1\n" + solution)
    assert ugly[4]["success"]
    assert 0.0 <= ugly[4]["parts"]["readability"] < 0.4
    env.reset(seed=3)
    assert env.step(LINE.format("x"))[4]["parts"] == {"tests": -1.0, "readability": 0.0}


def test_70_special_cases_of_the_examples_are_counted_and_fail(env: th.TextEnv) -> None:
    shown = {test["args"][0]: test["expected"] for test in env.instance["visible"]}
    _, reward, _, _, info = env.step(LINE.format(f"{shown}.get(x)"))
    assert (reward, info["success"], info["faults"]) == (-1.0, False, {"visible_only": 1})
    env.reset(seed=3)
    assert "faults" not in env.step(LINE.format("None"))[4]


def test_tampering_is_counted_and_never_told_or_rewarded(env: th.TextEnv) -> None:
    cheat = "class Same(int):\n    def __eq__(self, other):\n        return True\n\n\n"
    cheat += LINE.format("Same()")
    observation, reward, _, _, info = env.step(th.render_call("test", code=cheat))
    assert info["faults"] == {"tamper/custom_type": 2}
    assert "tamper" not in observation
    assert reward == 0.0
    _, reward, _, _, info = env.step(cheat)
    assert (reward, info["faults"]) == (-1.0, {"tamper/custom_type": 1})


def test_faults_of_calls_and_signs_of_tampering_are_kept_together(env: th.TextEnv) -> None:
    calls = th.render_call("run", code="pass", shell=True)
    calls += th.render_call("test", code="import os\nos._exit(0)\n")
    faults = env.step(calls)[4]["faults"]
    assert faults == {"extra_argument": 1, "tamper/exit_at_import": 2}


def test_a_fence_counts_and_code_that_is_too_long_is_not_run(env: th.TextEnv) -> None:
    solution = env.instance["solution"]
    assert env.fork().step(f"I think:\n```python\n{solution}```\nThat is it.")[4]["success"]
    assert not env.fork().step(f"```python\n{solution}```\n```python\nx = 1\n```")[4]["success"]
    long = "#" * 30_000
    assert not env.fork().step(solution + long)[4]["success"]
    observation, *_ = env.fork().step(th.render_call("run", code=long))
    assert observation == "error: the code is longer than 20,000 characters"


def test_an_input_that_is_too_long_is_refused_not_cut(env: th.TextEnv) -> None:
    count = "import sys\nprint(len(sys.stdin.read()))\n"
    for length, said in (
        (20_000, "| 20000"),
        (20_001, "error: stdin is longer than 20,000 characters"),
    ):
        assert env.fork().step(th.render_call("run", code=count, stdin="x" * length))[0] == said


def test_fork_and_state_are_text(env: th.TextEnv) -> None:
    env.step(th.render_call("test", code=LINE.format("x")))
    twin = th.make("coding", families="expression", sandbox=env.construction[1]["sandbox"])
    twin.set_state(json.loads(json.dumps(env.get_state())))
    assert twin.get_state()["world"] == {}
    action = env.instance["solution"]
    assert env.step(action) == twin.step(action)


def test_59_what_is_expected_never_enters_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = with_result(monkeypatch, status=Status.OK, value="wrong")
    env = th.make("coding", families="expression", max_turns=1, reward="fraction")
    env.reset(seed=5)
    env.step("def f(x):\n    return x\n")
    # The visible tests come last: do they pass where the hidden do not?
    tests = env.instance["hidden"] + env.instance["visible"][:1]
    for program, test in zip(recorder.programs, tests, strict=True):
        assert program == Program("def f(x):\n    return x\n", "f", tuple(test["args"]))


def test_72_a_sandbox_that_fails_masks_the_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    with_result(monkeypatch, status=Status.SANDBOX_ERROR, detail="the daemon is gone")
    env = th.make("coding")
    env.reset(seed=0)
    with pytest.raises(SandboxError, match="the daemon is gone"):
        env.step(env.oracle())
    factory = resolve("coding")
    (played,) = rollout(factory, scripted_policy("null", factory), [Job("train", 0)])
    assert played.stop is StopReason.OUTSIDE_ERROR
    assert played.is_masked
    assert not played.success


@pytest.mark.parametrize(
    "status", [s for s in Status if s not in (Status.OK, Status.SANDBOX_ERROR)]
)
def test_72_whatever_else_ends_a_run_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    with_result(monkeypatch, status=status, value=1)
    env = th.make("coding")
    env.reset(seed=0)
    assert "0 of 2 examples pass" in env.step(env.oracle())[0]
    _, reward, terminated, _, info = env.step(env.oracle())
    assert (reward, terminated, info["success"]) == (-1.0, True, False)


def test_difficulty_adds_families() -> None:
    env = th.make("coding")
    for difficulty in (1, 2, 3):
        allowed = {name for level, names in LEVELS.items() if level <= difficulty for name in names}
        seen = set()
        for seed in range(150):
            env.reset(seed=seed, options={"difficulty": difficulty})
            seen.add(env.instance["family"])
        assert seen <= allowed
        assert len(seen) > 0.8 * len(allowed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"families": "expresion"}, "did you mean 'expression'"),
        ({"families": []}, r"no coding family in \[\]; choose from expression, "),
        ({"reward": "partial"}, "unknown reward"),
        ({"readability": 2.0}, "readability must be"),
        ({"cpu_s": 0}, "cpu_s must be"),
        ({"sandbox": {"teir": "docker"}}, "sandbox.teir"),
        ({"sandbox": {"tier": "none"}}, "sandbox.tier = 'none'"),
        ({"sandbox": {"slots": 0}}, "sandbox.slots = 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=said):
        th.make("coding", **options)
