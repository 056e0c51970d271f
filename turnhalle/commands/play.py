"""`turnhalle play`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from turnhalle.commands.options import Difficulty, Options, make_console, parse_options

if TYPE_CHECKING:
    from turnhalle.envs.env import TextEnv


def play(
    env: Annotated[str, typer.Argument(help="Id, short name, `module:Class` or `file.py:Class`.")],
    task: Annotated[int, typer.Option(help="Number of the task.", min=0)] = 0,
    difficulty: Difficulty = None,
    option: Options = None,
    oracle: Annotated[bool, typer.Option("--oracle", help="Let the oracle play.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the game to this .html or .gif in the end.")
    ] = None,
) -> None:
    """Play an environment yourself.

    `:undo` takes a turn back, `:hint` asks the oracle, `:quit` ends.

    Tools are called as `name argument ...`, or in JSON as a model would.

    Examples: `turnhalle play tools`; `turnhalle play pacman --task 3 --option size=9`;
    `turnhalle play pacman --difficulty 6 --oracle --export game.html`.
    """
    from turnhalle.commands.export import require_replay
    from turnhalle.envs.options import EnvOptions

    options = EnvOptions(id=env, difficulty=difficulty, options=parse_options(option))
    world = options.factory()(render_mode="ansi")
    # Better to say so before the game than after it.
    replay = None if export is None else require_replay(world.anew(), export)
    game = _Game(world, make_console())
    game.begin(task)
    if oracle:
        game.watch()
    else:
        game.take_turns()
    if replay is not None and export is not None:
        replay.export_replay(game.world.task, game.actions, export)
        game.console.print(f"wrote {export}")


class _Game:
    """A person, or the oracle, at the board."""

    def __init__(self, world: TextEnv, console: Console) -> None:
        self.world, self.console = world, console
        self.actions: list[str] = []
        self.observation = ""
        self.earned = 0.0
        self._past: list[tuple[TextEnv, str, float]] = []
        self._can_undo = world.metadata["snapshot"] != "none"

    def begin(self, task: int) -> None:
        """Start, and show the rules."""
        from turnhalle.envs.tools.formats import describe

        self.observation, _ = self.world.reset(options={"task": task})
        self._show(self.world.system_prompt, "italic")
        if tools := self.world.tools():
            self._show(describe(tools, "compact"), "dim")
        self._look()

    def watch(self) -> None:
        """Let the oracle play to the end.

        Raises:
            ConfigError: There is no oracle.
        """
        from turnhalle.envs.errors import ConfigError
        from turnhalle.envs.tools.formats import readable

        if not self.world.has_oracle:
            raise ConfigError(f"{self.world.id} has no oracle to watch")
        while not self.world.is_over:
            action = self.world.expert()
            self._show(f"> {readable(action)}", "cyan")
            self._act(action)

    def take_turns(self) -> None:
        """Ask the person for actions until the game is over or they want no more."""
        from turnhalle.envs.tools.formats import to_canonical

        while not self.world.is_over:
            try:
                typed = self.console.input(Text("> ", "cyan"))
            except (EOFError, KeyboardInterrupt):
                self.console.print()
                return
            if typed == ":quit":
                return
            if typed == ":hint":
                self._show(self._hint(), "dim")
            elif typed == ":undo":
                self._undo()
            elif typed.startswith(":"):
                self._show(f"no command {typed}; there are :hint, :undo and :quit", "dim")
            else:
                if self._can_undo:
                    self._past.append((self.world.fork(), self.observation, self.earned))
                self._act(to_canonical(typed, "compact", self.world.tools()))

    def _act(self, action: str) -> None:
        self.actions.append(action)
        self.observation, reward, _, _, info = self.world.step(action)
        self.earned += reward
        self._look()
        if self.world.is_over:
            outcome = "solved" if info["success"] else f"not solved ({info['stop']})"
            self._show(
                f"{outcome} in {self.world.turn} turns, return {self.earned:.2f}",
                "green" if info["success"] else "red",
            )

    def _undo(self) -> None:
        if not self._past:
            why = "" if self._can_undo else ": this environment cannot be snapshot"
            self._show(f"nothing to take back{why}", "dim")
            return
        self.world, self.observation, self.earned = self._past.pop()
        self.actions.pop()
        self._look()

    def _hint(self) -> str:
        from turnhalle.envs.tools.formats import from_canonical

        if not self.world.has_oracle:
            return "this environment has no oracle"
        return from_canonical(self.world.expert(), "compact", self.world.tools())

    def _look(self) -> None:
        """The observation, under a picture of the world where the environment draws one."""
        from turnhalle.envs.env import TextEnv

        if type(self.world).picture is not TextEnv.picture:
            # A picture brings its own colours, which the console leaves out where there are none.
            self.console.print(Text.from_ansi(self.world.picture()))
        self._show(self.observation, "bold")

    def _show(self, text: str, style: str) -> None:
        self.console.print(text, style=style)
