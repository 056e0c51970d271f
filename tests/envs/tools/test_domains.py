"""What the domains have in common: they are judged by final state and answer."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.tools.domain import MAX_CALLS, Domain
from turnhalle.envs.tools.formats import FORMATS, from_canonical, render_call, to_canonical

IDS = ["store", "calendar", "workspace", "units"]


def made(id: str, **options: Any) -> Domain:
    env = th.make(id, **options)
    assert isinstance(env, Domain)
    return env


def finish(env: Domain) -> bool:
    success = False
    while not env.is_over:
        *_, info = env.step(env.oracle())
        success = info.get("success", False)
    return success


@pytest.mark.parametrize("id", IDS)
def test_tasks_need_two_to_eight_calls_and_more_at_higher_difficulty(id: str) -> None:
    means = []
    for difficulty in (1, 2, 3):
        turns = []
        for task in range(40):
            env = made(id)
            env.reset(options={"task": task, "difficulty": difficulty})
            assert finish(env), (difficulty, task)
            assert not env.faults
            turns.append(env.turn)
        assert min(turns) >= 2
        assert max(turns) <= MAX_CALLS
        means.append(sum(turns) / len(turns))
    assert means == sorted(means)
    assert means[2] > means[0] + 2


@pytest.mark.parametrize("id", ["calendar", "workspace", "units"])
def test_what_an_expert_sees_in_training_it_does_not_see_in_a_test(id: str) -> None:
    env, seen = made(id), {"train": set[str](), "test": set[str]()}
    for split, tasks in (("train", 800), ("test", 200)):
        for task in range(tasks):
            told = [env.reset(options={"split": split, "task": task})[0]]
            while not env.is_over:
                action = env.oracle()
                told += [action, env.step(action)[0]]
            seen[split].add("\n".join(told))
    assert len(seen["train"] & seen["test"]) <= 2  # the same gaps, between other meetings


@pytest.mark.parametrize("id", IDS)
def test_any_difficulty_draws(id: str) -> None:
    for difficulty in (5, 12, 100):
        env = made(id)
        env.reset(options={"task": 0, "difficulty": difficulty})
        assert finish(env)


@pytest.mark.parametrize("id", IDS)
def test_the_answer_without_the_deeds_fails(id: str) -> None:
    for task in range(30):
        env = made(id, difficulty=1 + task % 3)
        env.reset(options={"task": task})
        *_, info = env.step(render_call("done", answer=str(env.goal.answer)))
        assert not info["success"], task


@pytest.mark.parametrize("id", IDS)
def test_the_deeds_with_another_answer_fail(id: str) -> None:
    for task in range(30):
        env = made(id)
        env.reset(options={"task": task})
        for name, arguments in env.plan:
            env.step(render_call(name, **arguments))
        right = str(env.goal.answer)
        for answer in ("", "done", right + "1", "1" + right, "-" + right, f"{right} or 3"):
            *_, info = (twin := env.fork()).step(render_call("done", answer=answer))
            assert twin.is_over
            assert not info["success"], answer
        assert finish(env)


@pytest.mark.parametrize("id", IDS)
def test_all_calls_may_come_in_one_turn(id: str) -> None:
    env = made(id, difficulty=3)
    env.reset(options={"task": 3})
    calls = [*env.plan, ("done", {"answer": str(env.goal.answer)})]
    *_, terminated, _, info = env.step("".join(render_call(n, **a) for n, a in calls))
    assert terminated
    assert info["success"]
    assert len(info["messages"]) == len(calls)


@pytest.mark.parametrize("id", ["calendar", "workspace", "units"])
def test_what_went_astray_is_mended_by_the_oracle(id: str) -> None:
    rng = random.Random(0)
    for task in range(40):
        env = made(id, difficulty=1 + task % 3)
        env.reset(options={"task": task})
        for _ in range(3):
            name, arguments = rng.choice(env.blunders(rng))
            env.step(render_call(name, **arguments))
        assert finish(env), task


def test_what_cannot_be_taken_back_ends_without_success_but_ends() -> None:
    rng, solved = random.Random(0), 0
    for task in range(60):
        env = made("store", difficulty=1 + task % 3)
        env.reset(options={"task": task})
        for _ in range(2):
            name, arguments = rng.choice(env.blunders(rng))
            env.step(render_call(name, **arguments))
        solved += finish(env)
        assert env.turn < env.max_turns
    assert 20 < solved < 60


@pytest.mark.parametrize("id", IDS)
def test_mistakes_are_calls_that_the_format_can_say(id: str) -> None:
    rng = random.Random(1)
    env = made(id)
    for task in range(20):
        env.reset(options={"task": task})
        for _ in range(5):
            action = env.mistake(rng)
            compact = from_canonical(action, "compact", env.tools())
            assert to_canonical(compact, "compact", env.tools()) == action


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("format", FORMATS)
def test_the_oracle_can_be_written_in_every_format(id: str, format: str) -> None:
    env = made(id, difficulty=3)
    env.reset(options={"task": 1})
    success = False
    while not env.is_over:
        written = from_canonical(env.oracle(), format, env.tools())
        *_, info = env.step(to_canonical(written, format, env.tools()))
        success = info.get("success", False)
    assert success


@pytest.mark.parametrize("id", IDS)
def test_text_without_a_call_is_told_so(id: str) -> None:
    env = made(id)
    env.reset(seed=0)
    observation, _, terminated, _, _ = env.step("I would refund it.")
    assert observation == "error: call a tool; to finish, call done(answer)"
    assert [fault.kind for fault in env.faults] == ["no_call"]
    assert not terminated


@pytest.mark.parametrize("id", IDS)
def test_states_are_json_and_restore_the_world(id: str) -> None:
    env = made(id, difficulty=2)
    env.reset(seed=0)
    while not env.is_over:
        other = made(id, difficulty=2)
        other.set_state(json.loads(json.dumps(env.get_state())))
        assert other.outcome() == env.outcome()
        assert other.oracle() == env.oracle()
        env.step(env.oracle())


@pytest.mark.parametrize("id", IDS)
def test_random_calls_raise_nothing(id: str) -> None:
    rng = random.Random(2)
    values: list[Any] = ["", "x" * 9000, -1, 10**30, 0.5, True, None, [], {}, "mon", "a/b", "5 km"]
    env = made(id, max_turns=400)
    env.reset(seed=0)
    for _ in range(300):
        spec = rng.choice([spec for spec in env.tools() if spec.name != "done"])
        names = [*spec.parameters["properties"], "other"]
        env.step(render_call(spec.name, **{name: rng.choice(values) for name in names[:-1]}))
        env.step(render_call(spec.name, **{rng.choice(names): rng.choice(values)}))
        if env.is_over:
            env.reset(seed=0)


@pytest.mark.parametrize("id", IDS)
def test_a_budget_leaves_the_answer_free(id: str) -> None:
    env = made(id, max_calls=len(made_plan(id)))
    env.reset(options={"task": 2})
    assert finish(env)
    short = made(id, max_calls=1)
    short.reset(options={"task": 2})
    assert not finish(short)


def made_plan(id: str) -> list[Any]:
    env = made(id)
    env.reset(options={"task": 2})
    return env.plan
