"""Draw docs/quantize.svg: a policy that never saw 4 bits, in 16 to 1.58 bits.

The built-in policy is snapped to NF4 and would lose nothing; here it learns on in 32 bits first.
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
_REPORT = ["quantize", "plain", "--env", "tools", "--report", "bits", "-n", "400"]


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
