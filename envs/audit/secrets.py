"""Can the held-out tasks, or the answer, be known before they should be?"""

from __future__ import annotations

import re
from itertools import combinations

from ..core import StepInfo
from ..env import TextEnv
from ..math.answers import extract
from ..tasks import SPLITS, canonical
from ..tools.canonical import parse_action
from .core import FaultError, Subject, UncheckedError
from .play import NUMBER, begin, by_oracle, step

_MAX_IN_SIGHT = 0.2
"""How much more often the answer may be in sight than the answer of another task is."""


def _splits(subject: Subject) -> str:
    """No task is in two splits: each drawn one belongs to its own, and no listed one is drawn."""
    env = subject.env()
    family = env.task_family()
    if not family.by_content:
        return "by draw: every episode opens alike, so no task can be recognised"
    seen: dict[str, set[str]] = {split: set() for split in SPLITS}
    listed = {split for split in SPLITS if env.listed(split, env.difficulty) is not None}
    for index in subject.many(100):
        for split, found in seen.items():
            begin(env, index, split)
            if split not in listed and family.split(env.instance) != split:
                raise FaultError(f"task {index} of {split} belongs to {family.split(env.instance)}")
            found.add(canonical(family.content(env.instance)))
    seen |= {split: _all_listed(env, split) for split in listed}
    for one, other in combinations(SPLITS, 2):
        if seen[one] & seen[other]:
            raise FaultError(f"{len(seen[one] & seen[other])} tasks are in {one} and in {other}")
    sizes = ", ".join(f"{len(found)} in {split}" for split, found in seen.items())
    return f"disjoint; {sizes}" + (f" ({', '.join(sorted(listed))} listed)" if listed else "")


def _all_listed(env: TextEnv, split: str) -> set[str]:
    rows = env.listed(split, env.difficulty) or ()
    return {canonical(env.content(dict(row))) for row in rows}


def _info(subject: Subject) -> str:
    """`info` holds what the contract says and nothing of the task."""
    known = set(StepInfo.__annotations__)
    for index in subject.many(50):
        with subject.lent() as env:
            episode = begin(env, index)
            infos = [episode.last]
            while not env.is_over:
                step(env, episode, by_oracle(env, episode))
                infos.append(episode.last)
        for info in infos:
            if unknown := set(info) - known:
                raise FaultError(
                    f"info holds {sorted(unknown)}; the contract knows {sorted(known)}"
                )
        for info in infos[:-1]:
            if early := {"success", "stop"} & set(info):
                raise FaultError(f"info holds {sorted(early)} before the end")
            if canonical(env.instance) in str(info):
                raise FaultError(f"task {index}: info shows the instance before the end")
    return "holds the keys of the contract, and never the instance"


def _answer(subject: Subject) -> str:
    """The oracle's last action is not written in what those who do no work are shown."""
    if not subject.env().has_oracle:
        raise UncheckedError("no oracle")
    if subject.env().answer_in_sight:
        return "declares that its answers are in sight (`answer_in_sight`)"
    answers, seen = [], []
    for index in subject.many(100):
        answers.append(_gist(subject.play(index, by_oracle).actions[-1]))
        with subject.lent() as env:
            seen.append(_in_sight(env, index))
    shown, tasks = sum(map(_occurs, answers, seen)), len(seen)
    by_chance = sum(map(_occurs, answers, seen[1:] + seen[:1]))
    if shown > by_chance + _MAX_IN_SIGHT * tasks:
        raise FaultError(
            f"in {shown} of {tasks} tasks the answer that the oracle gives last is written in what "
            "anybody is shown before the end; if that is the task (copying, choosing), set "
            "`answer_in_sight = True`"
        )
    return f"in sight before the end in {shown} of {tasks} tasks, of another task in {by_chance}"


def _gist(action: str) -> str:
    """The answer that an action carries: an argument, what is marked, or the number in a phrase."""
    if calls := parse_action(action).calls:
        arguments = [str(value) for value in calls[-1].arguments.values()]
        return arguments[-1].strip() if arguments else ""
    text = extract(action)
    numbers = NUMBER.findall(text)
    return numbers[0] if len(numbers) == 1 else text


def _in_sight(env: TextEnv, index: int) -> str:
    """All that an episode of saying nothing shows before its last step."""
    episode = begin(env, index)
    seen = [episode.prompt]
    while not env.is_over:
        seen += [episode.observations[-1], env.picture(), str(episode.last)]
        step(env, episode, "")
    return "\n".join(seen)


def _occurs(answer: str, seen: str) -> bool:
    return bool(answer) and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", seen) is not None


CHECKS = {"splits": _splits, "info": _info, "answer": _answer}
