"""An episode to look at: one HTML file that needs nothing else, or an animated GIF."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..tasks import Task
from .game import Game
from .pictures import BACKGROUND, DOOR, FRIGHT, GHOSTS, PACMAN, PELLETS, WALLS, pixels

if TYPE_CHECKING:
    from PIL.Image import Image

    from .env import Pacman

_ENDINGS = (".html", ".gif")
_FRAMES_PER_SECOND = 8
_BAR = 24
"""Height of the line below the board of a GIF, in pixels."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The board after a turn; the first one is the start."""

    game: Game
    action: str
    observation: str
    reward: float


@dataclass(frozen=True, slots=True)
class Replay:
    """An episode that was played again."""

    title: str
    outcome: str
    frames: list[Frame]


def record(env: Pacman, task: Task, actions: Sequence[str]) -> Replay:
    """Play actions in a task and keep the board after each, up to the end of the episode."""
    observation, info = env.begin(task)
    frames = [Frame(_frozen(env.game), "", observation, 0.0)]
    for action in actions:
        if env.is_over:
            break
        observation, reward, _, _, info = env.step(action)
        frames.append(Frame(_frozen(env.game), action, observation, reward))
    earned = sum(frame.reward for frame in frames)
    outcome = "solved" if info.get("success") else "failed" if env.is_over else "not finished"
    title = f"{task.env}, task {task.index} of {task.split}, difficulty {task.difficulty}"
    return Replay(title, f"{outcome} in {env.turn} turns, return {earned:.2f}", frames)


def write_replay(replay: Replay, path: Path) -> None:
    """Write a replay; the name's ending says as what.

    Raises:
        ConfigError: Another ending than `.html` and `.gif`, or Pillow is missing (for a GIF).
    """
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise ConfigError(f"a replay is a {' or '.join(_ENDINGS)} file, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if ending == ".html":
        path.write_text(html(replay), encoding="utf-8")
    else:
        _write_gif(replay, path)


def html(replay: Replay) -> str:
    """A page with the board, its controls, and what was seen and done at each turn."""
    import jinja2

    source = (files(__package__) / "replay.html.jinja").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return page.from_string(source).render(
        title=replay.title, outcome=replay.outcome, replay=_data(replay)
    )


def _data(replay: Replay) -> dict[str, Any]:
    """What the page's script draws."""
    first = replay.frames[0].game
    maze = first.maze
    colours = {"back": BACKGROUND, "wall": WALLS, "door": DOOR, "pellet": PELLETS}
    colours |= {"pacman": PACMAN, "fright": FRIGHT, **GHOSTS}
    left = [first.pellets, *(frame.game.pellets for frame in replay.frames)]
    return {
        "rows": maze.rows,
        "hasBorder": maze.has_border,
        "colours": {name: f"rgb{colour}" for name, colour in colours.items()},
        "pellets": sorted(first.pellets),
        "power": sorted(first.power),
        "frames": [
            {
                "player": frame.game.player,
                "heading": frame.game.heading,
                "ghosts": [(*ghost.cell, ghost.kind, ghost.mood) for ghost in frame.game.ghosts],
                "eaten": sorted(before - frame.game.pellets),
                "fright": frame.game.fright,
                "caption": frame.game.caption(),
                "action": frame.action,
                "observation": frame.observation,
                "reward": round(frame.reward, 6),
            }
            for before, frame in zip(left, replay.frames, strict=False)
        ],
    }


def _write_gif(replay: Replay, path: Path) -> None:
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError(
            "a GIF needs Pillow: pip install 'turnhalle[replay]'; a .html replay needs nothing"
        ) from error
    pictures = [_with_bar(frame) for frame in replay.frames]
    # One palette for all frames, so that only what moves is stored. Rows of frames show it all.
    some = pictures[:: max(1, len(pictures) // 6)]
    sheet = Image.new("RGB", (some[0].width * len(some), some[0].height))
    for number, picture in enumerate(some):
        sheet.paste(picture, (number * picture.width, 0))
    palette = sheet.quantize(64)
    images = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    still = 1000 // _FRAMES_PER_SECOND
    durations = [still] * (len(images) - 1) + [2000]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False
    )


def _with_bar(frame: Frame) -> Image:
    """The board as an image, score and action in a bar below."""
    from PIL import Image, ImageDraw

    board = Image.fromarray(pixels(frame.game))
    picture = Image.new("RGB", (board.width, board.height + _BAR), BACKGROUND)
    picture.paste(board)
    place = (board.width // 2, board.height + _BAR // 2)
    ImageDraw.Draw(picture).text(place, frame.game.caption(), fill=(220, 220, 230), anchor="mm")
    return picture


def _frozen(game: Game) -> Game:
    """A copy that the game's next moves leave alone."""
    frozen = copy.copy(game)
    frozen.pellets, frozen.power = set(game.pellets), set(game.power)
    return frozen
