"""Scripts of peers, each in .venvs/<peer>, made on first use from its pinned requirements."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run(peer: str, script: str, *arguments: str, given: Any = None) -> dict[str, Any]:
    """The JSON that a script prints in the peer's virtual environment; `given` is its input."""
    home, folder = ROOT / ".venvs" / peer, ROOT / "benchmarks" / "peers"
    python = str(home / "bin" / "python")
    if not (home / ".ready").exists():
        venv.create(home, with_pip=True)
        needed = folder / f"requirements-{peer}.txt"
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", str(needed)], check=True)
        (home / ".ready").touch()
    done = subprocess.run(
        [python, "-W", "ignore", str(folder / script), *arguments],
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
