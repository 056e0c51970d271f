"""Names of environments: our own registry on top of Gymnasium's.

An environment answers to its id (`turnhalle/Tools-v0`), to its short name (`tools`, the newest
version), to `module:Class` and to `path/to/file.py:Class`.
"""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import inspect
import logging
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from .env import TextEnv
from .errors import ConfigError, UnknownNameError, unknown_name
from .isolation import IsolatedEnv, Isolation
from .modules import environment_files, import_module
from .playable import Playable

ENTRY_POINTS = "turnhalle.envs"
_ID = re.compile(r"^(?:(?P<space>[\w:.-]+)/)?(?P<name>[\w:.-]+?)(?:-v(?P<version>\d+))?$")
_log = logging.getLogger("turnhalle")
_registered: dict[str, EnvSpec] = {}
_entry_points_loaded = False


@dataclass(frozen=True, slots=True)
class EnvFactory:
    """Builds environments of one kind, without wrappers: what rollouts use."""

    cls: type[TextEnv]
    spec: EnvSpec | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    isolation: Isolation | None = None
    """What holds environments apart that a rollout opens; None: nothing does."""

    @property
    def id(self) -> str:
        """The id of the environments that come out."""
        return self.spec.id if self.spec else self.cls.class_id()

    def __call__(self, render_mode: str | None = None) -> TextEnv:
        """A new environment.

        Raises:
            UnknownNameError: The environment takes no such option.
            ConfigError: It takes no such value.
        """
        kwargs = self.kwargs if render_mode is None else {**self.kwargs, "render_mode": render_mode}
        try:
            env = self.cls(**kwargs)
        except TypeError as error:
            known = _options_of(self.cls)
            for name in kwargs:
                if name not in known and repr(name) in str(error):
                    raise unknown_name(f"option of {self.id}", name, known) from error
            raise ConfigError(f"{self.id} cannot be built with {kwargs}: {error}") from error
        env.spec = self.spec
        if self.spec is not None and kwargs != self.spec.kwargs:
            # Gymnasium builds more environments from the spec; they must be like this one.
            env.spec = copy.copy(self.spec)
            env.spec.kwargs = kwargs
        return env

    def open(self) -> Playable:
        """A new environment to be played: in a process of its own where `isolation` is set.

        Raises:
            ConfigError: Another process could not find the environment.
        """
        return self() if self.isolation is None else IsolatedEnv(self, self.isolation)


def _options_of(cls: type[TextEnv]) -> list[str]:
    """The names of the arguments that a class and those that it hands them on to take."""
    names: list[str] = []
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            names += [p.name for p in parameters if p.kind in named]
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return sorted(set(names) - {"self"})


def register(id: str, entry_point: type[TextEnv] | str, **kwargs: Any) -> None:
    """Register an environment under `namespace/Name-v0`.

    Args:
        id: The id; `gymnasium.make(id)` and `turnhalle.make(id)` find it afterwards.
        entry_point: The class, or `module:Class`, imported when the first one is made.
        kwargs: Arguments of the class's `__init__`.

    Raises:
        ConfigError: The id has no name, or belongs to another environment.
    """
    match = _ID.match(id)
    if match is None or match["version"] is None:
        raise ConfigError(f"an environment id reads namespace/Name-v0, got {id!r}")
    old = _registered.get(id)
    if old is not None and (_name(old.entry_point), old.kwargs) != (_name(entry_point), kwargs):
        raise ConfigError(
            f"{id} is registered already, as {_name(old.entry_point)}; take the next version"
        )
    if old is None:
        # A class is called like any other creator.
        creator: Any = entry_point
        gymnasium.register(id, creator, kwargs=kwargs)
        _registered[id] = gymnasium.spec(id)


def registered() -> dict[str, EnvSpec]:
    """All registered text environments by id, those of installed plug-ins included."""
    global _entry_points_loaded
    if not _entry_points_loaded:
        _entry_points_loaded = True
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
            try:
                loaded = entry.load()
                if not isinstance(loaded, ModuleType):
                    loaded()
            except Exception as error:  # one broken plug-in must not take the others away
                _log.warning(
                    "the plug-in %s = %s failed and its environments are missing: %s: %s",
                    entry.name,
                    entry.value,
                    type(error).__name__,
                    error,
                )
    return dict(sorted(_registered.items()))


def resolve(name: str, **kwargs: Any) -> EnvFactory:
    """Find an environment by id, short name, `module:Class` or `file.py:Class`.

    Raises:
        UnknownNameError: Nothing answers to the name; says what does.
    """
    if name.endswith(".py") and ":" not in name:
        factories = resolve_all(name, **kwargs)
        if len(factories) == 1:
            return factories[0]
        names = ", ".join(f"{name}:{factory.cls.__qualname__}" for factory in factories)
        raise UnknownNameError(f"{name} has several environments; give one of {names}")
    if ":" in name:
        module_name, _, rest = name.rpartition(":")
        module = import_module(module_name)
        if "/" not in rest:
            found = getattr(module, rest, None)
            if not (isinstance(found, type) and issubclass(found, TextEnv)):
                classes = [k for k, v in vars(module).items() if _is_own_env(v, module)]
                raise unknown_name("environment class", rest, classes, f"Looked in {module_name}.")
            return EnvFactory(found, _spec_of(found), kwargs)
        name = rest
    spec = _find(name)
    return EnvFactory(_load(spec), spec, {**spec.kwargs, **kwargs})


def resolve_all(name: str, **kwargs: Any) -> list[EnvFactory]:
    """Like `resolve`; a file or folder stands for every environment that it defines.

    Bases of others are left out: classes that lack a method every environment must define, and
    those whose name begins with `_`.

    Raises:
        UnknownNameError: Nothing answers to the name, or no environment is defined there.
    """
    folder = Path(name)
    if ":" in name or not (folder.is_dir() or name.endswith(".py")):
        return [resolve(name, **kwargs)]
    files = environment_files(folder) if folder.is_dir() else [folder]
    modules = [import_module(str(path)) for path in files]
    own = [v for m in modules for v in vars(m).values() if _is_own_env(v, m)]
    reasons = {cls: _why_left_out(cls) for cls in own}
    if all(reasons.values()):
        bases = ", ".join(f"{cls.__qualname__} ({reason})" for cls, reason in reasons.items())
        hint = f"; left out: {bases}" if bases else ""
        raise UnknownNameError(f"no TextEnv in the {len(files)} Python files of {name!r}{hint}")
    return [EnvFactory(c, _spec_of(c), kwargs) for c, reason in reasons.items() if not reason]


def make(name: str, *, render_mode: str | None = None, **kwargs: Any) -> TextEnv:
    """Make an environment by any of its names, bare: without Gymnasium's wrappers.

    Raises:
        UnknownNameError: Nothing answers to the name.
        ConfigError: The environment takes no such option.
    """
    return resolve(name, **kwargs)(render_mode)


def _find(name: str) -> EnvSpec:
    specs = registered()
    if name in specs:
        return specs[name]
    by_version: dict[int, list[EnvSpec]] = {}
    wanted = _ID.match(name)
    for id, spec in specs.items():
        match = _ID.match(id)
        if wanted and match and _matches(wanted, match):
            by_version.setdefault(int(match["version"]), []).append(spec)
    if not by_version:
        known = [*specs, *(_short(id) for id in specs if id.startswith("turnhalle/"))]
        hint = "Your own: `module:Class` or `path/to/file.py:Class`."
        raise unknown_name("environment", name, known, hint)
    newest = by_version[max(by_version)]
    if len(newest) > 1:
        raise UnknownNameError(
            f"{name!r} could be {' or '.join(spec.id for spec in newest)}; give the whole id"
        )
    return newest[0]


def _matches(wanted: re.Match[str], have: re.Match[str]) -> bool:
    return (
        wanted["name"].lower() == have["name"].lower()
        and wanted["space"] in (None, have["space"])
        and wanted["version"] in (None, have["version"])
    )


def _short(id: str) -> str:
    match = _ID.match(id)
    return match["name"].lower() if match else id


def _load(spec: EnvSpec) -> type[TextEnv]:
    found = spec.entry_point
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(importlib.import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, TextEnv)):
        raise ConfigError(f"{spec.id}: {_name(found)} is no TextEnv")
    return found


def _spec_of(cls: type[TextEnv]) -> EnvSpec | None:
    """The registered spec of a class, so that `file.py:Guess` and `me/Guess-v0` are one."""
    wanted: Any = cls
    specs = [s for s in _registered.values() if s.entry_point is wanted and not s.kwargs]
    return specs[-1] if specs else None


def _is_own_env(value: Any, module: ModuleType) -> bool:
    is_env = isinstance(value, type) and issubclass(value, TextEnv)
    return is_env and value.__module__ == module.__name__


def _why_left_out(cls: type[TextEnv]) -> str:
    """Why a class is the base of environments and none itself; empty where it is one."""
    required = ("draw", "start", "respond")
    missing = [name for name in required if getattr(cls, name) is getattr(TextEnv, name)]
    if missing:
        return f"must define {', '.join(missing)}"
    return "its name begins with _" if cls.__name__.startswith("_") else ""


def _name(entry_point: Any) -> str:
    """`file:Class`, the same however the file was imported, or the entry point as written."""
    if not isinstance(entry_point, type):
        return str(entry_point)
    file = getattr(sys.modules.get(entry_point.__module__), "__file__", entry_point.__module__)
    return f"{file}:{entry_point.__qualname__}"
