"""The environments that Turnhalle brings along, registered by name; their code loads on use."""

from __future__ import annotations

from .registry import register

BUILTIN = {
    "turnhalle/Basics-v0": "turnhalle.envs.basics.env:Basics",
    "turnhalle/Calendar-v0": "turnhalle.envs.tools.calendar:Calendar",
    "turnhalle/Coding-v0": "turnhalle.envs.coding.env:Coding",
    "turnhalle/Gsm8k-v0": "turnhalle.envs.math.gsm8k:Gsm8k",
    "turnhalle/HumanEval-v0": "turnhalle.envs.coding.humaneval:HumanEval",
    "turnhalle/Math-v0": "turnhalle.envs.math.env:Math",
    "turnhalle/MathProblems-v0": "turnhalle.envs.math.problems:MathProblems",
    "turnhalle/Pacman-v0": "turnhalle.envs.pacman.env:Pacman",
    "turnhalle/Store-v0": "turnhalle.envs.tools.store:Store",
    "turnhalle/Support-v0": "turnhalle.envs.support.env:Support",
    "turnhalle/Tools-v0": "turnhalle.envs.tools.shop:Shop",
    "turnhalle/Units-v0": "turnhalle.envs.tools.units:Units",
    "turnhalle/Workspace-v0": "turnhalle.envs.tools.workspace:Workspace",
}


def register_builtin() -> None:
    """Register all of them; called on `import turnhalle`."""
    for id, entry_point in BUILTIN.items():
        register(id, entry_point)
