"""The environments that Turnhalle brings along, registered by name; their code loads on use."""

from __future__ import annotations

from .registry import register

BUILTIN = {
    "turnhalle/Basics-v0": "turnhalle.envs.basics.env:Basics",
    "turnhalle/Gsm8k-v0": "turnhalle.envs.math.gsm8k:Gsm8k",
    "turnhalle/Math-v0": "turnhalle.envs.math.env:Math",
    "turnhalle/MathProblems-v0": "turnhalle.envs.math.problems:MathProblems",
    "turnhalle/Pacman-v0": "turnhalle.envs.pacman.env:Pacman",
    "turnhalle/Support-v0": "turnhalle.envs.support.env:Support",
    "turnhalle/Tools-v0": "turnhalle.envs.tools.shop:Shop",
}


def register_builtin() -> None:
    """Register all of them; called on `import turnhalle`."""
    for id, entry_point in BUILTIN.items():
        register(id, entry_point)
