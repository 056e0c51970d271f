"""Every code block of the README and of the docs is run, in order, in an empty folder.

Blocks that begin with a `# file:` comment are written down; the rest is run. `make` needs a fresh
clone: see `test_fresh_clone.py`. A command that would download a model gets one that is made here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SMALL = (
    " --steps 1 --set rollout.tasks=2 --set rollout.group_size=2 --set evaluate.tasks=10"
    " --set learn.warmup_steps=0 --set rollout.max_new_tokens=8 --set rollout.max_context=512"
    " --set model.device=cpu"
)


def blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def is_for_a_clone(code: str) -> bool:
    return code.startswith(("make ", "git "))


def without_download(code: str, model: Path) -> str:
    """The same command on a model folder that is here, and short."""
    lines = []
    for line in code.splitlines():
        if re.search(r"\bqwen3-|Qwen/", line):
            line = re.sub(r"Qwen/\S+", str(model), line)
            if "--model" not in line:
                line += f" --model {model}"
            line += _SMALL
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(
    page: Path, tmp_path: Path, make_model: Any, need_sandbox: Callable[..., None]
) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
    }
    for language, code in blocks(page):
        named = re.match(r"# file: (\S+)\n", code)
        if named:
            (tmp_path / named[1]).write_text(code, encoding="utf-8")
        elif language in ("bash", "python") and not is_for_a_clone(code):
            if re.search(r"sandbox|[Cc]oding|HumanEval", code):
                need_sandbox()
            command = [sys.executable, "-c", code]
            if language == "bash":
                command = ["bash", "-euo", "pipefail", "-c", without_download(code, make_model())]
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{page.name}:\n{code}\n{done.stdout}\n{done.stderr}"


def test_every_language_of_a_block_is_one_we_run_or_know_not_to() -> None:
    known = {"bash", "python", "toml", "text", "json"}
    for page in PAGES:
        assert {language for language, _ in blocks(page)} <= known, page
        count = page.read_text(encoding="utf-8").count("\n```")
        assert count == 2 * len(blocks(page)), f"{page}: a block without a language"


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f"docs/{page.name}" in readme or page.name == "README.md", page
