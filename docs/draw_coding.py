"""Draw the transcript of docs/coding.md: a near miss is tried, read, mended and submitted."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.text import Text

import turnhalle as th
from turnhalle.envs.coding.grading.boxes import close_boxes

FAMILY, TASK, MISTAKE = "runs", 4, 0


def main() -> None:
    """Write docs/coding.svg."""
    env = th.make("coding", families=[FAMILY])
    observation, _ = env.reset(seed=TASK)
    wrong, right = env.instance["mistakes"][MISTAKE], env.instance["solution"]
    console = Console(record=True, width=92, file=io.StringIO())
    console.print(Text(observation))
    turns = [("test", wrong), ("test", right), ("answer", right)]
    for what, code in turns:
        shown = "\n".join(f"  {line}" for line in code.splitlines())
        if code == right and what == "answer":
            shown = "  (the same code)"
        console.print(Text(f"> {what}\n{shown}", style="bold cyan"))
        action = code if what == "answer" else th.render_call(what, code=code)
        observation, reward, *_ = env.step(action)
        console.print(Text(observation, style="green" if env.is_over else ""))
    target = Path(__file__).with_name("coding.svg")
    title = f"turnhalle/Coding-v0, {FAMILY}, task {TASK}: reward {reward:g}"
    target.write_text(console.export_svg(title=title, unique_id="coding"), encoding="utf-8")
    print(target)
    close_boxes()


if __name__ == "__main__":
    main()
