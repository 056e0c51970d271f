"""Draw docs/quantize.svg: a policy that learned on in 32 bits, in 16 to 1.58 bits.

The built-in policy is snapped to NF4 and loses nothing there; 20 steps without snapping do.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

_TURNHALLE = Path(sys.executable).parent / "turnhalle"
_PRIME = [
    "prime", "--env", "tools", "--model", "tiny", "--set", "stages=[{sft={snap=false,steps=200}}]",
    "--set", "stop_at=0.8", "--out", "plain",
]  # fmt: skip
_REPORT = [
    "quantize", "plain", "--env", "tools", "--budget", "0.3", "--report", "bits", "-n", "400",
]  # fmt: skip


def main() -> None:
    """Prime, compare, and keep the plot."""
    target = Path(__file__).with_name("quantize.svg")
    with tempfile.TemporaryDirectory() as folder:
        for command in (_PRIME, _REPORT):
            subprocess.run([_TURNHALLE, *command], cwd=folder, check=True)
        target.write_bytes((Path(folder) / "bits" / "report.svg").read_bytes())
    print(target)


if __name__ == "__main__":
    main()
