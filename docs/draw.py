"""Draw the learning curve of the README from a run's store: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from turnhalle.agents.store import RunStore
from turnhalle.training.report import learning_curve


def main() -> None:
    """Write docs/learning_curve.svg from the run given, or the newest of runs/tools-*."""
    runs = sorted(Path("runs").glob("tools-*"), key=lambda path: path.stat().st_mtime)
    if len(sys.argv) < 2 and not runs:
        sys.exit("no run of tools yet; make one with: turnhalle train")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else runs[-1]
    store = RunStore(folder, read_only=True)
    target = Path(__file__).with_name("learning_curve.svg")
    target.write_text(learning_curve(store), encoding="utf-8")
    print(f"{target} from {folder}")


if __name__ == "__main__":
    main()
