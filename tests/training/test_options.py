"""What cannot work is refused with the fix, before any model is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from turnhalle.envs.errors import ConfigError
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.trainer import Trainer


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rollout": {"group_size": 1}}, "leaves nothing to compare; set it to 2 or more"),
        ({"learn": {"minibatches": 200}}, "plays only 128 episodes"),
        (
            {"credit": {"estimator": "ppo"}, "rollout": {"max_refills": 4}},
            "learns from groups of equal returns too",
        ),
        ({"value": {"weight": 0.1}}, "value.weight = 0.1 has no effect with credit.estimator"),
        ({"correction": {"high": 3.0}}, "correction.high = 3.0 has no effect with"),
        ({"overlong": {"penalty": 2.0}}, "has no effect with overlong.buffer_tokens = 0"),
        ({"overlong": {"buffer_tokens": 64}}, "must be below rollout.max_new_tokens = 64"),
        ({"loss": {"name": "reinforce"}, "learn": {"epochs": 2}}, "or one epoch"),
        (
            {"loss": {"name": "reinforce"}, "rollout": {"lookahead": 1}},
            "of an older policy, which it does not correct for; set correction.level",
        ),
        (
            {"engine": {"name": "vllm", "vllm": {"sleep": True}}, "rollout": {"lookahead": 1}},
            "vLLM samples meanwhile; leave one of them out",
        ),
        (
            {"engine": {"name": "vllm"}, "rollout": {"top_p": 0.9}},
            "does not say how much of the distribution rollout.top_k and rollout.top_p keep",
        ),
        (
            {"engine": {"name": "http://localhost:1"}, "rollout": {"top_k": 9}},
            'or set engine.name = "transformers"',
        ),
        ({"engine": {"adapter_folder": "a"}}, "engine.adapter_folder = 'a' has no effect with"),
        ({"engine": {"name": "vllm", "cache_gib": 1}}, "with engine.name = 'vllm'; leave it out"),
        ({"engine": {"vllm": {"sleep": True}}}, "with engine.name = 'transformers'; leave it out"),
        ({"mix": [{"env": {"id": "math"}}], "curriculum": {}}, "do not go together"),
        ({"credit": {"gamma": 0.9}}, "credit.gamma = 0.9 has no effect"),
        ({"loss": {"dual_clip": 1.1}}, "3 is usual"),
        ({"kl": {"place": "reward"}}, "kl.place = 'reward' has no effect with kl.weight = 0"),
    ],
)
def test_impossible_combinations(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainOptions.model_validate(given).check()


def test_a_group_of_one_is_fine_where_nothing_is_compared() -> None:
    for estimator in ("ppo", "reinforce", "reinforce_pp"):
        given = {"rollout": {"group_size": 1}, "credit": {"estimator": estimator}}
        TrainOptions.model_validate(given).check()


def test_a_group_of_one_is_fine_where_it_is_forked() -> None:
    rollout = {"group_size": 1, "branch": {"at": [1], "factor": 3}}
    given = {"rollout": rollout, "credit": {"estimator": "tree"}}
    TrainOptions.model_validate(given).check()


def test_a_context_that_the_model_does_not_know_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "turnhalle.training.trainer.load_model", lambda *_, **__: pytest.fail("a model was read")
    )
    options = TrainOptions.model_validate({"rollout": {"max_context": 10**6}})
    with pytest.raises(ConfigError, match=r"knows \d+ positions; set it to \d+ or less"):
        Trainer(options, tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()


def test_options_survive_the_store() -> None:
    """A resumed run reads every option back, defaults and all, and is not refused for it."""
    given = {
        "credit": {"estimator": "gigpo", "gamma": 0.9},
        "loss": {"name": "gspo", "level": "turn"},
        "mix": [{"env": {"id": "math"}, "weight": 2.0}],
    }
    options = TrainOptions.model_validate(given)
    again = TrainOptions.model_validate(options.model_dump(mode="json"))
    assert again == options
    again.check()
