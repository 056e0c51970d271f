"""Chats and preferences from files: what is scored, and what is wrong with a line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.envs.core import Message
from turnhalle.envs.errors import ConfigError, DataError
from turnhalle.training.chats import read_chats
from turnhalle.training.demos import to_example
from turnhalle.training.losses.dpo import dpo
from turnhalle.training.pairs import RaterOptions, read_pairs, sampled_answers
from turnhalle.training.prefer import PreferOptions, _margins, prefer
from turnhalle.training.prime import PrimeOptions, prime
from turnhalle.training.progress import Silent
from turnhalle.training.stages import stages_before

TALK = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "2+2?"},
]


def written(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return path


def decoded(chat: Any, example: Any) -> str:
    ids = [t for t, learned in zip(example.token_ids, example.is_action, strict=True) if learned]
    return str(chat.tokenizer.decode(ids))


def test_every_answer_of_a_chat_is_learned_and_nothing_else(
    make_model: Any, tmp_path: Path
) -> None:
    chat = load_chat(str(make_model()), ChatOptions())
    answered = [*TALK, {"role": "assistant", "content": "4"}]
    (talk,) = read_chats(written(tmp_path / "c.jsonl", {"messages": answered}))
    example = to_example(talk, chat, imitate_mistakes=False)
    assert decoded(chat, example) == "Hello.<|im_end|>4<|im_end|>"
    whole = chat.tokenizer.decode(example.token_ids)
    assert whole.index("Be short.") < whole.index("Hi") < whole.index("2+2?")


def test_of_a_pair_only_the_two_last_answers_are_scored(make_model: Any, tmp_path: Path) -> None:
    chat = load_chat(str(make_model()), ChatOptions())
    line = {"messages": TALK, "chosen": "4", "rejected": "five"}
    (pair,) = read_pairs(written(tmp_path / "p.jsonl", line), chat)
    assert decoded(chat, pair.chosen) == "4<|im_end|>"
    assert decoded(chat, pair.rejected) == "five<|im_end|>"
    context = pair.chosen.is_action.index(True)
    assert pair.chosen.token_ids[:context] == pair.rejected.token_ids[:context]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"message": []}, "line 2: messages: missing"),
        ({"messages": []}, "line 2: messages: empty"),
        ({"messages": [{"role": "boss", "content": "x"}]}, r"line 2: messages\.0\.role"),
        ({"messages": TALK[:2]}, "none is of the assistant"),
        ({"messages": TALK[2:]}, r"messages\[0\]: the assistant speaks unasked"),
        ([1], "line 2"),
    ],
)
def test_a_line_that_is_no_chat_is_named(tmp_path: Path, line: Any, said: str) -> None:
    good = {"messages": TALK}
    with pytest.raises(DataError, match=said):
        read_chats(written(tmp_path / "c.jsonl", good, line))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chosen": ""}, "line 1: chosen: must be a text"),
        ({"rejected": None}, "line 1: rejected: must be a text, got None"),
        ({"chosen": "same", "rejected": "same"}, "are the same text"),
        ({"messages": TALK[:3]}, "who is to answer"),
    ],
)
def test_a_line_that_is_no_pair_is_named(
    make_model: Any, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    chat = load_chat(str(make_model()), ChatOptions())
    line = {"messages": TALK, "chosen": "a", "rejected": "b"} | changes
    with pytest.raises(DataError, match=said):
        read_pairs(written(tmp_path / "p.jsonl", line), chat)


def answers_of(pairs: list[Any], chat: Any) -> list[tuple[str, str]]:
    end = "<|im_end|>"
    return [
        (decoded(chat, p.chosen).removesuffix(end), decoded(chat, p.rejected).removesuffix(end))
        for p in pairs
    ]


def test_of_rated_answers_every_two_that_differ_are_a_pair(make_model: Any, tmp_path: Path) -> None:
    chat = load_chat(str(make_model()), ChatOptions())
    rated = [{"text": "a", "rating": 3}, {"text": "b", "rating": 5}, {"text": "c", "rating": 3}]
    flat = [{"text": "x", "rating": 1}, {"text": "y", "rating": 1}]
    lines = ({"messages": TALK, "answers": rated}, {"prompt": "Hi", "answers": flat})
    pairs = read_pairs(written(tmp_path / "p.jsonl", *lines), chat)
    assert answers_of(pairs, chat) == [("b", "a"), ("b", "c")]
    with pytest.raises(DataError, match=r"no two answers .* are rated differently"):
        read_pairs(written(tmp_path / "flat.jsonl", lines[1]), chat)


def test_the_pairs_of_reward_fit_are_read_too(make_model: Any, tmp_path: Path) -> None:
    chat = load_chat(str(make_model()), ChatOptions())
    line = {"prompt": "How are you?", "chosen": "Fine.", "rejected": "No."}
    (pair,) = read_pairs(written(tmp_path / "p.jsonl", line), chat)
    assert answers_of([pair], chat) == [("Fine.", "No.")]
    assert "How are you?" in chat.tokenizer.decode(pair.chosen.token_ids)


def test_a_reward_rates_what_nobody_has(make_model: Any, tmp_path: Path) -> None:
    """Answers from the file, and the model's own where there are none."""
    chat = load_chat(str(make_model()), ChatOptions())
    lm = load_model(ModelOptions(name=str(make_model()), precision="fp32", device="cpu"))
    sampling = Sampling(max_new_tokens=6)
    draw = sampled_answers(TransformersEngine(lm), chat, sampling, seed=0)
    rater = RaterOptions(
        name="length", options={"low": 1, "high": 3, "unit": "characters"}, samples=3
    )
    given = {"messages": TALK, "answers": [{"text": "far too long"}, {"text": "4"}]}
    path = written(tmp_path / "p.jsonl", given, {"prompt": "Say a word."})
    pairs = read_pairs(path, chat, rater, draw)
    assert answers_of(pairs, chat)[0] == ("4", "far too long")
    own = draw([[Message(role="user", content="Say a word.")]], 3)[0]
    assert len(set(own)) == 3
    drawn = {text for two in answers_of(pairs, chat)[1:] for text in two}
    assert drawn
    assert drawn <= set(own)
    assert draw([[Message(role="user", content="Say a word.")]], 3)[0] == own  # by the seed alone
    with pytest.raises(DataError, match="line 2: has no answers"):
        read_pairs(path, chat, rater)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"prompt": "x"}, "needs chosen and rejected, or two answers with a rating"),
        ({"prompt": "x", "answers": [{"text": "a", "rating": 1}]}, "or two answers with a rating"),
        (
            {"prompt": "x", "answers": [{"text": "a"}, {"text": "b"}]},
            "a reward rates those without",
        ),
        ({"prompt": "x", "answers": "ab"}, "answers: must be a list of objects"),
        ({"prompt": "x", "answers": [{"text": 1}]}, r"answers\[0\]: text: must be a text"),
        (
            {"prompt": "x", "answers": [{"text": "a", "rating": "good"}]},
            r"answers\[0\]: rating: must be a number, got 'good'",
        ),
    ],
)
def test_ratings_that_cannot_be_used_are_named(
    make_model: Any, tmp_path: Path, line: dict[str, Any], said: str
) -> None:
    chat = load_chat(str(make_model()), ChatOptions())
    with pytest.raises(DataError, match=f"line 1.*{said}"):
        read_pairs(written(tmp_path / "p.jsonl", line), chat)


def test_a_rater_does_not_overrule_people(make_model: Any, tmp_path: Path) -> None:
    chat = load_chat(str(make_model()), ChatOptions())
    line = {"prompt": "x", "chosen": "a", "rejected": "b"}
    with pytest.raises(ConfigError, match="choices of people's already; leave the stage's rater"):
        read_pairs(written(tmp_path / "p.jsonl", line), chat, RaterOptions(name="length"))
    free = {"prompt": "2 + 2?", "answers": [{"text": "4"}, {"text": "5"}]}
    partly = {"prompt": "1 + 1?", "answers": [{"text": "2", "rating": 5}, {"text": "3"}]}
    with pytest.raises(ConfigError, match=r"p\.jsonl, line 2: has ratings"):
        read_pairs(written(tmp_path / "p.jsonl", free, partly), chat, RaterOptions(name="length"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*none\.jsonl"):
        read_chats(tmp_path / "none.jsonl")


def test_dpo_by_hand() -> None:
    margins = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    loss = dpo(margins, torch.tensor([0.5, 0.0], dtype=torch.float64), beta=0.2)
    assert loss.tolist() == pytest.approx([math.log1p(math.exp(-0.3)), math.log1p(math.exp(0.2))])
    loss.sum().backward()
    # d/dm = -beta sigmoid(-beta (m - m_ref)): pairs that are right already move less.
    assert margins.grad is not None
    assert margins.grad.tolist() == pytest.approx(
        [-0.2 / (1 + math.exp(0.3)), -0.2 / (1 + math.exp(-0.2))]
    )


def test_preference_tuning_raises_the_margin_of_every_pair(make_model: Any, tmp_path: Path) -> None:
    chat = load_chat(str(make_model()), ChatOptions())
    lines = [
        {"messages": [{"role": "user", "content": str(n)}], "chosen": f"{n}!", "rejected": f"{n}?"}
        for n in range(12)
    ]
    pairs = read_pairs(written(tmp_path / "p.jsonl", *lines), chat)
    lm = load_model(ModelOptions(name=str(make_model()), precision="fp32", device="cpu"))
    with torch.no_grad():
        before = _margins(lm, pairs)
    losses: list[float] = []
    options = PreferOptions(steps=25, batch_tokens=256, warmup_steps=2, snap=False)

    def on_step(step: int, loss: float) -> bool:
        losses.append(loss)
        return False

    prefer(lm, pairs, options, seed=0, on_step=on_step)
    with torch.no_grad():
        after = _margins(lm, pairs)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)  # the reference is the start
    assert losses[-1] < 0.5 * losses[0]
    assert (after > before).all()
    assert not any(p.requires_grad for p in lm.model.parameters())


def test_chats_and_pairs_are_stages_of_a_priming(tmp_path: Path, make_model: Any) -> None:
    chats = written(
        tmp_path / "c.jsonl",
        *({"messages": [*TALK, {"role": "assistant", "content": str(n)}]} for n in range(4)),
    )
    pairs = written(
        tmp_path / "p.jsonl", {"messages": TALK, "chosen": "4", "rejected": "five, I think"}
    )
    options = PrimeOptions.model_validate(
        {
            "demos": [{"env": {"id": "math"}, "episodes": 0}],
            "chats": [str(chats)],
            "model": str(make_model()),
            "stages": [
                {"sft": {"steps": 2, "batch_tokens": 256}},
                {"pairs": str(pairs), "prefer": {"steps": 2}},
            ],
            "evaluate_tasks": 10,
            "max_new_tokens": 2,
        }
    )
    result = prime(options, tmp_path / "out", Silent())
    card = (result.folder / "README.md").read_text(encoding="utf-8")
    assert '"pairs": ' in card
    assert '"chats": ' in card
    assert [stage.kind for stage in stages_before(str(result.folder))] == [
        "base",
        "imitation",
        "preferences",
    ]
    assert f"at most 2 steps of DPO on what people preferred in {pairs}" in card
    nothing = options.model_copy(update={"chats": []})
    with pytest.raises(ConfigError, match=r"stages\[0\] has nothing to imitate"):
        prime(nothing, tmp_path / "none", Silent())
