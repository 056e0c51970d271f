"""Is it a Gymnasium environment, in Gymnasium's own tools?"""

from __future__ import annotations

import pickle
import warnings
from functools import partial

import gymnasium
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

from ..errors import EpisodeOverError
from .core import FaultError, Subject
from .play import by_oracle, play


def _checker(subject: Subject) -> str:
    """Gymnasium's own checker finds nothing, not even a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = subject.factory(render_mode="ansi")
        # Other render modes are tried through the spec, which an unregistered class has not.
        check_env(env, skip_render_check=env.spec is None)
    if caught:
        raise FaultError(str(caught[0].message))
    return "passes Gymnasium's check_env without a warning"


def _wrapped(subject: Subject) -> str:
    """It works in wrappers, and its spec can be sent to another process."""
    env: gymnasium.Env[str, str] = RecordEpisodeStatistics(TimeLimit(subject.env(), 1))
    env.reset(seed=0)
    *_, terminated, truncated, info = env.step("")
    env.close()
    if not (terminated or truncated) or info["episode"]["l"] != 1:
        raise FaultError(
            "TimeLimit(1) and RecordEpisodeStatistics do not end the episode after a step"
        )
    spec = subject.factory.spec
    if spec is not None and pickle.loads(pickle.dumps(spec)).id != spec.id:
        raise FaultError("its spec does not survive pickling")
    return "works under TimeLimit and RecordEpisodeStatistics" + (", spec pickles" if spec else "")


def _vector(subject: Subject) -> str:
    """Two at a time, in this process and in others, play as one does."""
    make = [subject.env, subject.env]
    kinds = {"SyncVectorEnv": SyncVectorEnv}
    if not subject.is_quick and subject.env().metadata["snapshot"] != "none":
        kinds["AsyncVectorEnv"] = partial(AsyncVectorEnv, shared_memory=False)  # type: ignore[assignment]
    with subject.lent() as env:
        alone = [env.reset(seed=seed)[0] for seed in (1, 2)]
    for name, kind in kinds.items():
        envs = kind(make)
        try:
            observations, _ = envs.reset(seed=[1, 2])
            envs.step(("", ""))
        finally:
            envs.close()
        if list(observations) != alone:
            raise FaultError(f"{name}: the tasks of seeds 1 and 2 are not those of one environment")
    return f"plays the same tasks in {' and '.join(kinds)}"


def _ended(subject: Subject) -> str:
    """No step is taken after the end or before the beginning."""
    env = subject.env()
    for moment in ("before reset", "after the end"):
        try:
            env.step("")
        except EpisodeOverError:
            pass
        else:
            raise FaultError(f"step {moment} is accepted")
        if moment == "before reset":
            play(env, 0, by_oracle)
    return "step raises before reset and after the end"


CHECKS = {"api": _checker, "wrappers": _wrapped, "vector": _vector, "ends": _ended}
