"""Draw docs/support.svg: one case of the support desk, served by the oracle."""

from __future__ import annotations

import textwrap
from pathlib import Path
from xml.sax.saxutils import escape

import turnhalle as th
from turnhalle.envs.tools.formats import parse_action, readable

TASK, DIFFICULTY = 3, 2
WIDTH, LINE, CHARACTERS = 680, 18, 42
COLOURS = {"customer": "#e8eefc", "desk": "#e3f4e1", "tool": "#f3f3f3"}


def conversation() -> list[tuple[str, str]]:
    """Who says what, with the reward parts of each turn."""
    env = th.make("support", difficulty=DIFFICULTY)
    observation, _ = env.reset(options={"task": TASK})
    said = [("customer", observation)]
    while not env.is_over:
        action = env.oracle()
        observation, _, _, _, info = env.step(action)
        parts = ", ".join(f"{name} {value:+.1f}" for name, value in info["parts"].items())
        said.append(("desk", f"{readable(action)}\n[{parts}]"))
        said.append(("tool" if parse_action(action).calls else "customer", observation))
    return said


def draw(said: list[tuple[str, str]]) -> str:
    """Bubbles: the customer and the tools on the left, the desk on the right."""
    shapes, y = [], 10
    for who, text in said:
        lines = [
            (part, line.startswith("["))
            for line in text.split("\n")
            for part in textwrap.wrap(line, CHARACTERS)
        ]
        height = LINE * len(lines) + 12
        x = WIDTH - 370 if who == "desk" else 10
        shapes.append(
            f'<rect x="{x}" y="{y}" width="360" height="{height}" rx="8" fill="{COLOURS[who]}"/>'
        )
        for number, (line, is_reward) in enumerate(lines):
            style = ' fill="#777"' if is_reward else ""
            row = y + 20 + number * LINE
            shapes.append(f'<text x="{x + 10}" y="{row}"{style}>{escape(line)}</text>')
        y += height + 6
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 4}" '
    style = 'font-family="monospace" font-size="13">'
    background = f'<rect width="{WIDTH}" height="{y + 4}" fill="white"/>'
    return "\n".join([head + style, background, *shapes, "</svg>"]) + "\n"


if __name__ == "__main__":
    target = Path(__file__).with_name("support.svg")
    target.write_text(draw(conversation()), encoding="utf-8")
    print(target)
