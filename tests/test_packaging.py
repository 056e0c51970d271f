"""The wheel: complete, nothing at the top level but `turnhalle`, and it works from elsewhere."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_list_of_packages_is_that_of_the_folders() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(settings["tool"]["setuptools"]["packages"])
    homes = settings["tool"]["setuptools"]["package-dir"]
    found = set()
    for package, home in homes.items():
        for init in (ROOT / home).rglob("__init__.py"):
            inside = init.parent.relative_to(ROOT / home).parts
            found.add(".".join([package, *inside]))
    assert listed == found


def test_type_checkers_see_every_package() -> None:
    for folder in ("agents", "envs", "kernels", "training", "commands", "tiny", "recipes"):
        link = ROOT / ".typing" / "turnhalle" / folder
        assert link.is_symlink(), link
        assert (link / "__init__.py").is_file(), link
    top = {path.name for path in (ROOT / "turnhalle").glob("*.py")}
    linked = {path.name for path in (ROOT / ".typing" / "turnhalle").glob("*.py")}
    assert linked == top


def test_the_wheel_holds_only_turnhalle_and_all_of_its_files(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"turnhalle"}
    for needed in (
        "turnhalle/py.typed",
        "turnhalle/envs/env.py",
        "turnhalle/recipes/quickstart.toml",
        "turnhalle/tiny/model.safetensors",
        "turnhalle/tiny/tokenizer.json",
        "turnhalle/tiny/chat_template.jinja",
        "turnhalle/tiny/turnhalle.json",
        "turnhalle/tiny/README.md",
        "turnhalle/training/report.html.jinja",
        "turnhalle/envs/pacman/replay.html.jinja",
        "turnhalle/skeleton/pyproject.toml.jinja",
    ):
        assert needed in names


def test_the_built_in_policy_is_small(wheel: Path) -> None:
    assert zipfile.ZipFile(wheel).getinfo("turnhalle/tiny/model.safetensors").file_size < 4_000_000


def test_the_wheel_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    install = [str(python), "-m", "pip", "install", "-q", "-c", str(constraints), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, cwd=tmp_path)
    commands = [
        [str(home / "bin" / "turnhalle"), "check", "tools"],
        [str(home / "bin" / "turnhalle"), "bench", "--policy", "oracle", "--policy", "random"],
    ]
    for command in commands:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
        assert "Tools-v0" in done.stdout
    counted = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=freeze"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    brought = [line for line in counted if line.split("==")[0] not in ("pip", "setuptools")]
    assert len(brought) <= 27, brought  # 26 and turnhalle itself
    without_torch = subprocess.run(
        [str(home / "bin" / "turnhalle"), "train"], capture_output=True, text=True, cwd=tmp_path
    )
    assert without_torch.returncode == 2
    assert "turnhalle[train]" in without_torch.stderr
