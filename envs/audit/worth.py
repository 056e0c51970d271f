"""Is success worth what it says: the oracle earns it, and nobody gets it for nothing?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from decimal import Decimal, localcontext

from ..math.answers import extract
from ..rewards.check import check_reward
from ..rewards.rubric import Rubric
from .core import FaultError, Subject, UncheckedError
from .play import IDLERS, NUMBER, Act, Episode, actions_at_random, begin, by_oracle, step

_ORACLE_SUCCESS = 0.98
"""An oracle may lose to luck in two tasks of a hundred; rewards of the rest must be the maximum."""
_TOLERANCE = 1e-6
_POOL_FROM, _POOL_TASKS = 1000, 10
_WORD = re.compile(r"[^\W\d_]{2,}")


def _oracle(subject: Subject) -> str:
    """The oracle succeeds, and earns the declared maximum where it does."""
    if not subject.env().has_oracle:
        raise FaultError("no oracle; nobody knows that the tasks can be solved")
    best = subject.env().reward_range[1]
    solved = tasks = 0
    for index in subject.many(100):
        episode = subject.play(index, by_oracle)
        solved += episode.success
        tasks += 1
        if episode.success and abs(episode.earned - best) > _TOLERANCE:
            raise FaultError(f"task {index} solved, but it earned {episode.earned:g} of {best:g}")
    if solved < _ORACLE_SUCCESS * tasks:
        raise FaultError(f"solves only {solved} of {tasks} tasks")
    return f"solves {solved} of {tasks} tasks, each for the maximal reward"


def _idlers(subject: Subject) -> str:
    """Policies that do no work neither succeed nor earn more than the floor."""
    solved, tasks, floor = dict.fromkeys(IDLERS, 0), 0, subject.env().reward_floor
    lucky, at_random = 0, _at_random(subject)
    for index in subject.many(100):
        for name, act in IDLERS.items():
            episode = subject.play(index, act)
            solved[name] += episode.success
            _within_floor(episode, floor, f"task {index}: {name}")
        if at_random is not None:
            lucky += subject.play(index, at_random).success
        tasks += 1
    name = max(solved, key=solved.__getitem__)
    limit = subject.env().success_floor
    found = f"{name} solves {solved[name]} of {tasks} tasks"
    # Two standard deviations of luck, so that few tasks condemn nobody.
    if solved[name] > limit * tasks + 2 * math.sqrt(limit * tasks):
        raise FaultError(f"{found}; declared are at most {limit:.0%} (`success_floor`)")
    found = f"of {len(IDLERS)} policies that do no work, the best ({name}) solves {solved[name]}"
    # No fault by itself: there are games that chance may win, and authors who want to know it.
    return found if at_random is None else f"{found}; an expert's actions at random solve {lucky}"


def _at_random(subject: Subject) -> Act | None:
    """What the oracle does in other tasks, at random; None where there is no oracle."""
    if not subject.env().has_oracle:
        return None
    tasks = range(_POOL_FROM, _POOL_FROM + _POOL_TASKS)
    return actions_at_random([a for t in tasks for a in subject.play(t, by_oracle).actions])


def _mutants(subject: Subject) -> str:
    """The oracle's last action, changed a little, fails."""
    if not subject.env().has_oracle:
        raise UncheckedError("no oracle")
    tried = 0
    for index in subject.many(50):
        whole = subject.play(index, by_oracle)
        if not whole.success:
            continue
        *before, last = whole.actions
        with subject.lent() as env:
            begin(env, index)
            for action in before:
                env.step(action)
            misses = env.near_misses(last)
        for wrong in misses or mutations(last):
            _must_fail(subject, index, before, wrong)
            tried += 1
    return f"{tried} changed answers fail"


def _must_fail(subject: Subject, index: int, before: list[str], wrong: str) -> None:
    with subject.lent() as env:
        episode = begin(env, index)
        for action in (*before, wrong):
            step(env, episode, action)
        while not env.is_over:
            step(env, episode, "")
    if episode.success:
        raise FaultError(
            f"task {index}: {wrong!r} succeeds beside the oracle's answer; if several answers are "
            "right, say with `near_misses` which are wrong"
        )
    _within_floor(episode, env.reward_floor, f"task {index}: {wrong!r}")


def _within_floor(episode: Episode, floor: float, who: str) -> None:
    if not episode.success and episode.earned > floor + _TOLERANCE:
        raise FaultError(f"{who} earned {episode.earned:g} > {floor:g} (`reward_floor`)")


def mutations(action: str) -> Iterator[str]:
    """Actions with a wrong answer near the right one: other numbers, words, two answers, none.

    Where the answer is marked (`#### 42`), what stands before it is left as it is.
    """
    yield ""
    answer = extract(action)
    if not answer or answer == action.strip():
        yield from _near(action)
        return
    head, _, tail = action.rpartition(answer)
    yield head + tail
    for wrong in _near(answer):
        yield head + wrong + tail


def _near(answer: str) -> Iterator[str]:
    numbers, words = list(NUMBER.finditer(answer)), list(_WORD.finditer(answer))
    if numbers:
        where, others = numbers[-1], _other_numbers(numbers[-1][0])
    elif words:
        where, word = words[-1], words[-1][0]
        others = [word[:-1], f"{word}q", word[0] + word]
    else:
        return
    for other in others:
        yield answer[: where.start()] + other + answer[where.end() :]
    if "<tool_call>" not in answer:  # words beside a call mean nothing
        yield f"{answer} {others[0]}"


def _other_numbers(digits: str) -> list[str]:
    """Numbers near another one, exactly and in plain digits however long it is."""
    with localcontext() as context:
        context.prec = len(digits) + 1  # 28 by default; one more for 999 + 1
        right = Decimal(digits)
        near = [f"{number:f}" for number in (right + 1, right - 1, -right)]
        near += [f"{digits}7", f"7{digits.lstrip('-')}"]
        near += [digits[:-1]] if digits[-2:-1].isdigit() else []
        return [text for text in dict.fromkeys(near) if Decimal(text) != right]


def _rewards(subject: Subject) -> str:
    """Rewards are finite, returns in the declared range, parts add up."""
    low, high = subject.env().reward_range
    episodes = 0
    for index in subject.many(50):
        for act in (by_oracle, IDLERS["babble"]):
            with subject.lent() as env:
                episode = begin(env, index)
                while not env.is_over:
                    step(env, episode, act(env, episode))
                    _must_add_up(episode, index)
            if not low - _TOLERANCE <= episode.earned <= high + _TOLERANCE:
                raise FaultError(
                    f"task {index} earned {episode.earned:g}, declared is {low:g} to {high:g}"
                )
            episodes += 1
    return f"{episodes} returns within {low:g} to {high:g}"


def _must_add_up(episode: Episode, index: int) -> None:
    parts, reward = episode.last.get("parts", {}), episode.rewards[-1]
    if parts and not math.isclose(sum(parts.values()), reward):
        raise FaultError(f"task {index}: parts {parts} are not {reward:g}")


def _rubric(subject: Subject) -> str:
    """The rewards of a `rubric` attribute say of their fixtures what they must."""
    rubric = getattr(subject.env(), "rubric", None)
    if not isinstance(rubric, Rubric):
        return "has no rubric"
    problems = [f"{r.name}: {problem}" for r in rubric.rewards for problem in check_reward(r)]
    if problems:
        raise FaultError(problems[0])
    return f"{', '.join(r.name for r in rubric.rewards)} do what their fixtures say"


CHECKS = {
    "oracle": _oracle,
    "idle": _idlers,
    "mutants": _mutants,
    "rewards": _rewards,
    "rubric": _rubric,
}
