"""Configuration: merged in order, and every mistake explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnhalle.config import load_options, recipes
from turnhalle.envs.errors import ConfigError, UnknownNameError
from turnhalle.training.options import TrainOptions
from turnhalle.training.prime import PrimeOptions


def load(
    recipe: str | None = None, *sets: str, model: type = TrainOptions, **overrides: object
) -> TrainOptions:
    return load_options(model, recipe, overrides, sets)


def test_every_recipe_is_valid() -> None:
    assert "quickstart" in recipes()
    for name in recipes():
        model = PrimeOptions if name == "tiny" else TrainOptions
        load(name, model=model)


def test_a_recipe_that_is_no_text_is_said(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_bytes('name = "Grün"'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"mine\.toml is no text in UTF-8: 'utf-8' codec"):
        load(str(recipe))


def test_later_sources_win(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('steps = 7\nseed = 3\n[env]\nid = "math"\n', encoding="utf-8")
    options = load(str(recipe), "seed=5", "learn.learning_rate=1e-4", **{"env.id": "pacman"})
    assert (options.steps, options.seed, options.env.id) == (7, 5, "pacman")
    assert options.learn.learning_rate == 1e-4
    assert load(str(recipe), **{"env.id": None}).env.id == "math"


def test_values_are_toml_and_bare_words_are_text() -> None:
    options = load(
        None,
        "env.id=guess.py:Guess",
        "env.options={view='grid', size=7}",
        "chat.system_prompt=You are Pac-Man.",
        "model.gradient_checkpointing=true",
    )
    assert options.env.id == "guess.py:Guess"
    assert options.env.options == {"view": "grid", "size": 7}
    assert options.chat.system_prompt == "You are Pac-Man."
    assert options.model.gradient_checkpointing is True


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("stepps=3", "unknown key 'stepps'; did you mean 'steps'"),
        ("learn.learning_rat=3", "unknown key in 'learn' 'learning_rat'; did you mean"),
        (
            "rollout.group_size=0",
            "rollout.group_size = 0: Input should be greater than or equal to 1",
        ),
        ("rollout.temperature=0", "rollout.temperature = 0: Input should be greater than 0"),
        (
            "model.precision=int3",
            "Input should be 'auto', 'nf4', 'fp4', 'int8', 'fp32', 'bf16' or 'fp16'",
        ),
        ("steps=many", "steps = 'many': Input should be a valid integer"),
        ("steps", "--set takes key=value, got 'steps'"),
        ("steps.more=3", "steps.more: steps is a value, it has no keys"),
    ],
)
def test_mistakes_say_what_was_given_and_what_is_allowed(setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("quickstart", setting)
    assert said in str(caught.value)


def test_unknown_and_broken_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'quickstart'"):
        load("quickstrat")
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'nowhere.toml'"):
        load("nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("steps = = 3", encoding="utf-8")
    with pytest.raises(ConfigError, match="is no TOML"):
        load(str(broken))
