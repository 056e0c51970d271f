"""Draw the transcript of docs/tools.md: an episode of the store, played by its oracle."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.text import Text

import turnhalle as th
from turnhalle.envs.tools.formats import readable

TASK, DIFFICULTY = 5, 2


def main() -> None:
    """Write docs/tools.svg."""
    env = th.make("store", difficulty=DIFFICULTY)
    observation, _ = env.reset(seed=TASK)
    console = Console(record=True, width=92, file=io.StringIO())
    console.print(Text(observation))
    while not env.is_over:
        action = env.oracle()
        console.print(Text(f"> {readable(action)}", style="bold cyan"))
        observation, reward, *_ = env.step(action)
        console.print(Text(observation, style="green" if env.is_over else ""))
    target = Path(__file__).with_name("tools.svg")
    title = f"turnhalle/Store-v0, difficulty {DIFFICULTY}, task {TASK}: reward {reward:g}"
    target.write_text(console.export_svg(title=title, unique_id="tools"), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
