"""Names of environments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import turnhalle as th
from turnhalle.envs.errors import ConfigError, UnknownNameError
from turnhalle.envs.registry import resolve, resolve_all

SOURCE = '''
import turnhalle as th

class Guess(th.TextEnv):
    """Guess."""
    def __init__(self, limit=10, **kwargs):
        super().__init__(**kwargs)
        self.limit = limit
    def draw(self, rng, difficulty):
        return {"secret": rng.randint(1, self.limit)}
    def start(self):
        return "Guess."
    def respond(self, action):
        return th.End("no")

NotAnEnv = 3
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "my_worlds.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["turnhalle/Tools-v0", "tools", "Tools", "Tools-v0"])
def test_an_environment_answers_to_all_its_names(name: str) -> None:
    assert th.make(name).id == "turnhalle/Tools-v0"


def test_a_class_is_found_by_module_or_file(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_file = resolve(f"{source}:Guess", limit=5)
    assert by_file().limit == 5  # type: ignore[attr-defined]
    monkeypatch.syspath_prepend(source.parent)
    assert resolve("my_worlds:Guess").id == "my_worlds:Guess"
    assert resolve(f"{source}:Guess").cls is by_file.cls


def test_a_folder_may_be_a_package_and_holds_more_than_environments(tmp_path: Path) -> None:
    project = tmp_path / "project"
    package = project / "worlds_of_mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .guess import Guess\n", encoding="utf-8")
    (package / "limits.py").write_text("LIMIT = 7\n", encoding="utf-8")
    beside = SOURCE.replace("limit=10", "limit=LIMIT")
    (package / "guess.py").write_text(f"from .limits import LIMIT\n{beside}", encoding="utf-8")
    for passed_over in (".venv/x.py", "build/x.py", "tests/helper.py", "setup.py", "test_x.py"):
        path = project / passed_over
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit('imported')\n", encoding="utf-8")
    code = (
        "from turnhalle.envs.registry import resolve, resolve_all\n"
        f"[found] = resolve_all({str(project)!r})\n"
        f"assert found.cls is resolve({str(package / 'guess.py')!r}).cls\n"
        "print(found.id, found().limit)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "worlds_of_mine.guess:Guess 7\n", done.stderr


def test_another_package_of_the_same_name_is_not_taken_for_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        package = tmp_path / name / "twice_there"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(SOURCE, encoding="utf-8")
    code = (
        "from turnhalle.envs.registry import resolve\n"
        f"resolve({str(tmp_path / 'one/twice_there/__init__.py')!r})\n"
        f"resolve({str(tmp_path / 'two/twice_there/__init__.py')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "two/twice_there/__init__.py is twice_there in its package, but that is" in done.stderr


def test_a_registered_class_keeps_its_id_however_it_is_named(source: Path) -> None:
    text = SOURCE + '\nth.register("test/ByFile-v0", Guess)\n'
    source.write_text(text, encoding="utf-8")
    assert resolve(f"{source}:Guess").id == "test/ByFile-v0"
    assert gymnasium.make("test/ByFile-v0").unwrapped.spec.id == "test/ByFile-v0"
    assert "test/ByFile-v0" in th.registered()


def test_the_newest_version_is_meant_where_none_is_said(source: Path) -> None:
    cls = resolve(f"{source}:Guess").cls
    th.register("test/Versions-v1", cls, limit=1)
    th.register("test/Versions-v10", cls, limit=10)
    th.register("test/Versions-v2", cls, limit=2)
    assert th.make("versions").limit == 10  # type: ignore[attr-defined]
    assert th.make("test/Versions-v2").limit == 2  # type: ignore[attr-defined]
    th.register("other/Versions-v10", cls)
    with pytest.raises(UnknownNameError, match="give the whole id"):
        th.make("versions")


def test_unknown_names_get_a_suggestion(source: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tools'"):
        th.make("tolls")
    with pytest.raises(UnknownNameError, match="no module named 'nowhere'"):
        th.make("nowhere:Guess")
    with pytest.raises(UnknownNameError, match="no file"):
        th.make("nowhere.py:Guess")
    with pytest.raises(UnknownNameError, match="did you mean 'Guess'"):
        th.make(f"{source}:Gues")
    with pytest.raises(UnknownNameError, match="NotAnEnv"):
        th.make(f"{source}:NotAnEnv")


BASES = """
import turnhalle as th

class _Base(th.TextEnv):
    def start(self): ...
    def respond(self, action): ...

class Unfinished(th.TextEnv):
    def start(self): ...
"""


def test_a_file_stands_for_its_environments_and_not_for_their_bases(tmp_path: Path) -> None:
    path = tmp_path / "based.py"
    whole = "\nclass {}(_Base):\n    def draw(self, rng, difficulty): ...\n"
    path.write_text(BASES + whole.format("_Inner") + whole.format("Outer"), encoding="utf-8")
    assert [factory.cls.__name__ for factory in resolve_all(str(path))] == ["Outer"]
    assert [factory.cls.__name__ for factory in resolve_all(str(tmp_path))] == ["Outer"]
    assert resolve(f"{path}:_Base").cls.__name__ == "_Base"  # who names it gets it


def test_a_file_of_bases_alone_says_what_they_lack(tmp_path: Path) -> None:
    path = tmp_path / "bases.py"
    path.write_text(BASES, encoding="utf-8")
    said = (
        r"no TextEnv in the 1 Python files of .*bases.py'; "
        r"left out: _Base \(must define draw\), Unfinished \(must define draw, respond\)$"
    )
    with pytest.raises(UnknownNameError, match=said):
        resolve_all(str(path))
    path = tmp_path / "private.py"
    path.write_text(
        BASES.replace("start(self)", "draw(self)", 1) + "    def respond(self): ..."
        "\n    def draw(self): ...\nclass _Mine(Unfinished): ...\ndel Unfinished\n"
    )
    with pytest.raises(UnknownNameError, match=r"_Mine \(its name begins with _\)$"):
        resolve_all(str(path))


def test_a_file_that_fails_to_import_says_why(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import turnhalle\nraise RuntimeError('no luck')", encoding="utf-8")
    with pytest.raises(ConfigError, match="failed on import: RuntimeError: no luck"):
        th.make(f"{path}:Guess")


def test_ids_must_be_complete_and_are_never_taken_over(source: Path) -> None:
    cls = resolve(f"{source}:Guess").cls
    with pytest.raises(ConfigError, match="namespace/Name-v0, got 'test/NoVersion'"):
        th.register("test/NoVersion", cls)
    th.register("test/Mine-v0", cls)
    th.register("test/Mine-v0", cls)  # the same again is no harm
    with pytest.raises(ConfigError, match="registered already"):
        th.register("test/Mine-v0", "turnhalle.envs.math.env:Math")


def test_options_that_an_environment_does_not_take_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown option of turnhalle/Math-v0 'colour'"):
        th.make("math", colour="red")
    with pytest.raises(UnknownNameError, match="math family"):
        th.make("math", family="chian")
    with pytest.raises(ConfigError, match="size must be an odd number"):
        th.make("pacman", size=6)


def test_plug_ins_are_found_and_a_broken_one_takes_nothing_away(tmp_path: Path) -> None:
    source = SOURCE + '\ndef add():\n    th.register("third/Guess-v3", Guess, limit=500)\n'
    (tmp_path / "good_plug.py").write_text(source, encoding="utf-8")
    (tmp_path / "bad_plug.py").write_text("raise OSError('no such disk')\n", encoding="utf-8")
    for name, value in (("good", "good_plug:add"), ("bad", "bad_plug")):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[turnhalle.envs]\n{name} = {value}\n")
    code = "import turnhalle as th; print(th.make('guess').id, len(th.registered()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[0] == "third/Guess-v3"
    assert "bad = bad_plug failed" in done.stderr
    assert "no such disk" in done.stderr


@pytest.mark.parametrize(
    ("id", "options", "said"),
    [
        (
            "math",
            {"atempts": 3},
            r"did you mean 'attempts'\?.* Known: attempts, difficulty, family",
        ),
        ("mathproblems", {"mood": "x"}, "did you mean 'mode'"),
        ("support", {"max_call": 3}, "did you mean 'max_calls'"),
        ("store", {"max_calls": True}, "max_calls must be an integer of at least 1, got True"),
        ("store", {"fault_cost": "x"}, "fault_cost must be a number of at least 0, got 'x'"),
        ("math", {"family": 3}, "unknown math family 3. Known: chain"),
        ("pacman", {"view": None}, "unknown view None. Known: grid"),
        (
            "support",
            {"user": ["scripted"]},
            r"unknown user \['scripted'\]; did you mean 'scripted'",
        ),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(
    id: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        th.make(id, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": ["train"]}, r"unknown split \"\['train'\]\""),
        ({"task": True}, "task must be an integer of at least 0, got True"),
        ({"noise": -1}, "noise must be an integer of at least 0, got -1"),
        ({"difficulty": 0}, "difficulty must be an integer of at least 1, got 0"),
    ],
)
def test_a_wrong_reset_option_is_named(options: dict[str, Any], said: str) -> None:
    env = th.make("math")
    with pytest.raises(ConfigError, match=said):
        env.reset(options=options)
