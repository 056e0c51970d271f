"""The architecture: who may import whom, how big things may get, what a plain import costs."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "envs": {"envs"},
    "kernels": {"kernels"},
    "agents": {"agents", "envs", "kernels"},
    "training": {"training", "agents", "envs", "kernels"},
}
FOLDERS = [*MAY_IMPORT, "turnhalle"]


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Level and module of every import, wherever it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_down_only(folder: str) -> None:
    for path in sources(folder):
        for level, module in imports(ast.parse(path.read_text(encoding="utf-8"))):
            parts = module.split(".")
            if level == 0 and parts[0] == "turnhalle":
                assert len(parts) > 1, f"{path}: import from the layer itself, not from turnhalle"
                assert parts[1] in MAY_IMPORT[folder], f"{path} imports {module}"
                assert parts[1] != folder, f"{path}: imports inside a folder are relative"


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_imported_by_its_folder_name(folder: str) -> None:
    for path in sources(folder):
        for level, module in imports(ast.parse(path.read_text(encoding="utf-8"))):
            assert level or module.split(".")[0] not in MAY_IMPORT, f"{path} imports {module}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_and_functions_stay_small(folder: str) -> None:
    for path in sources(folder):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= (400 if folder == "kernels" else 300), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                assert size <= 60, f"{path}: {node.name} has {size} lines"


def test_a_plain_import_is_light() -> None:
    forbidden = ("torch", "transformers", "peft", "matplotlib", "httpx")
    code = (
        "import sys, turnhalle, turnhalle.envs.registry as r\n"
        "[r.resolve(id)() for id in r.registered()]\n"
        f"heavy = [name for name in {forbidden!r} if name in sys.modules]\n"
        "assert not heavy, heavy"
    )
    # The whole of it beside what it stands on: seconds alone would measure the machine.
    below = least_cpu_seconds("import gymnasium, pydantic")
    assert least_cpu_seconds("import turnhalle") < 0.5
    assert least_cpu_seconds(code) < 4 * below


def least_cpu_seconds(code: str) -> float:
    """The least of three: a busy machine takes up to half as much again."""
    return min(cpu_seconds(code) for _ in range(3))


def cpu_seconds(code: str) -> float:
    """What a fresh interpreter takes to run some code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime


def test_names_are_loaded_on_first_use() -> None:
    import turnhalle

    for name in turnhalle.__all__:
        assert getattr(turnhalle, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = turnhalle.nope
