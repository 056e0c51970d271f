"""Draw docs/math.svg: two episodes of `MathProblems-v0`, as they are played."""

from __future__ import annotations

from html import escape
from pathlib import Path

import turnhalle as th
from turnhalle.envs.tools.formats import readable

_LINE, _MARGIN, _WIDTH = 22, 16, 700
_COLOURS = {"env": "#1f4e79", "policy": "#333333", "right": "#2e7d32"}


def main() -> None:
    """Play, and write the picture."""
    calculator = th.make("mathproblems", mode="calculator", families=["rate"], difficulty=2)
    attempts = th.make("mathproblems", mode="attempts", families=["percent"])
    lines = episode(calculator, 4, [])
    lines += [("policy", ""), *episode(attempts, 5, ["20 parts of 320 #### 20", "#### 80"])]
    target = Path(__file__).with_name("math.svg")
    target.write_text(svg(lines), encoding="utf-8")
    print(target)


def episode(env: th.TextEnv, task: int, first: list[str]) -> list[tuple[str, str]]:
    """Who says what: the policy says `first`, then what the oracle does."""
    lines = [("env", env.reset(seed=task)[0])]
    while not env.is_over:
        action = first.pop(0) if first else env.oracle()
        observation, *_ = env.step(action)
        lines += [("policy", f"> {line}") for line in readable(action).splitlines()]
        kind = "right" if observation == "right" else "env"
        lines += [(kind, line) for line in observation.splitlines()]
    return lines


def svg(lines: list[tuple[str, str]]) -> str:
    """Lines of text, one colour a speaker."""
    height = 2 * _MARGIN + _LINE * len(lines)
    rows = "\n".join(
        f'<text x="{_MARGIN}" y="{_MARGIN + _LINE * n + 15}" fill="{_COLOURS[kind]}">'
        f"{escape(text)}</text>"
        for n, (kind, text) in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">\n'
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#f6f8fa"/>\n{rows}\n</svg>\n'
    )


if __name__ == "__main__":
    main()
