"""`turnhalle play`."""

from __future__ import annotations

from typing import Annotated

import typer

from turnhalle.commands.options import Difficulty, make_console


def play(
    env: Annotated[str, typer.Argument(help="Id, short name, `module:Class` or `file.py:Class`.")],
    task: Annotated[int, typer.Option(help="Number of the task.", min=0)] = 0,
    difficulty: Difficulty = None,
) -> None:
    """Play an environment yourself.

    `:undo` takes a turn back, `:hint` asks the oracle, `:quit` ends.

    Tools are called as `name argument ...`, or in JSON as a model would.

    Examples: `turnhalle play tools`; `turnhalle play pacman --task 3`.
    """
    from turnhalle.envs.env import TextEnv
    from turnhalle.envs.options import EnvOptions
    from turnhalle.envs.tools.formats import describe, from_canonical, to_canonical

    world = EnvOptions(id=env, difficulty=difficulty).factory()()
    console = make_console()

    def show(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False)

    observation, _ = world.reset(options={"task": task})
    tools = world.tools()
    show(world.system_prompt, "italic")
    if tools:
        show(describe(tools, "compact"), "dim")
    show(observation, "bold")
    past: list[tuple[TextEnv, str, float]] = []
    earned = 0.0
    while not world.is_over:
        try:
            typed = console.input("[cyan]> [/]")
        except (EOFError, KeyboardInterrupt):
            return
        if typed == ":quit":
            return
        if typed == ":hint":
            hint = world.oracle() if world.has_oracle else "this environment has no oracle"
            show(from_canonical(hint, "compact", tools), "dim")
        elif typed == ":undo":
            if past:
                world, observation, earned = past.pop()
            show(observation, "bold")
        else:
            past.append((world.fork(), observation, earned))
            observation, reward, _, _, info = world.step(to_canonical(typed, "compact", tools))
            earned += reward
            show(observation, "bold")
    outcome = "solved" if info["success"] else f"not solved ({info['stop']})"
    show(
        f"{outcome} in {world.turn} turns, return {earned:.2f}",
        "green" if info["success"] else "red",
    )
