"""Draw docs/math.svg: two episodes of `MathProblems-v0`, as they are played."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.text import Text

import turnhalle as th
from turnhalle.envs.tools.formats import readable


def main() -> None:
    """Play, and write the picture."""
    console = Console(record=True, width=92, file=io.StringIO())
    calculator = th.make("mathproblems", mode="calculator", families=["story"], difficulty=2)
    play(console, "a calculator", calculator, 4)
    console.print()
    attempts = th.make("mathproblems", mode="attempts", families=["linear"], difficulty=3)
    play(console, "three attempts", attempts, 3, misses=(-2, 3))
    target = Path(__file__).with_name("math.svg")
    title = "turnhalle/MathProblems-v0"
    target.write_text(console.export_svg(title=title, unique_id="math"), encoding="utf-8")
    print(target)


def play(
    console: Console, mode: str, env: th.TextEnv, task: int, misses: tuple[int, ...] = ()
) -> None:
    """An episode of the oracle's, after guesses that miss by so much."""
    console.print(Text(f"With {mode}", style="dim italic"))
    console.print(Text(env.reset(seed=task)[0]))
    guesses = [f"I guess #### {int(env.instance['answer']) + miss}" for miss in misses]
    while not env.is_over:
        action = guesses.pop(0) if guesses else env.oracle()
        console.print(Text("\n".join(f"> {a}" for a in readable(action).splitlines()), "bold cyan"))
        observation, *_ = env.step(action)
        console.print(Text(observation, style="green" if observation == "right" else ""))


if __name__ == "__main__":
    main()
