"""Packing: trees give the losses and gradients of padded rows, and every token is in one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.training.batch import Batch
from turnhalle.training.learner import Learner, LearnOptions
from turnhalle.training.losses.options import LossOptions
from turnhalle.training.objective import Objective
from turnhalle.training.packing import ROWS, TREE, Layout, Packing, pack, parts
from turnhalle.training.scoring import score
from turnhalle.training.value import ValueHead

LAYOUTS = (TREE, ROWS)
THRIFTY = Layout(is_tree=True, least=0.5, enough=15)
"""As on a CPU, where little is shared and passes end early."""


def model(folder: Any, **options: Any) -> LanguageModel:
    """With an adapter that changes something."""
    given = ModelOptions(name=str(folder), precision="fp32", device="cpu", **options)
    lm = load_model(given, lora_seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in lm.trainable().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return lm


def rollouts(lm: LanguageModel) -> Batch:
    """A prompt with two equal rollouts of opposite worth, a fork in the middle, and another prompt.

    The ratios of half of the rows are out of the clip's range on either side.
    """
    rng = np.random.default_rng(0)
    prompt, said = rng.integers(3, 250, 20), rng.integers(3, 250, 12)
    fork = np.concatenate([said[:5], rng.integers(3, 250, 9)])
    tokens = [np.concatenate([prompt, x]) for x in (said, said, fork)]
    tokens.append(np.concatenate([prompt[:7], rng.integers(3, 250, 30)]))
    first = [20, 20, 25, 30]
    sequence = np.concatenate(
        [np.full(len(t) - f, i) for i, (t, f) in enumerate(zip(tokens, first, strict=True))]
    )
    position = np.concatenate([np.arange(f, len(t)) for t, f in zip(tokens, first, strict=True)])
    zeros = np.zeros(len(sequence), dtype=np.float32)
    batch = Batch(
        sequences=tokens,
        episode=np.arange(4),
        sequence=sequence,
        position=position,
        turn=position // 5,
        advantage=np.array([1.0, -1.0, 0.7, -0.4], dtype=np.float32)[sequence],
        sampler_logprob=zeros,
        old_logprob=zeros,
        ref_logprob=zeros,
        weight=zeros + 1,
        value_target=zeros * np.nan,
    )
    with torch.no_grad():
        now = score(lm, batch, 1.0).logprobs.float().numpy()
    shift = np.array([0.0, 0.4, -0.4, 0.01], dtype=np.float32)[np.arange(len(now)) % 4]
    return replace(batch, old_logprob=now - shift)


def descended(lm: LanguageModel, batch: Batch, layout: Layout) -> tuple[float, torch.Tensor]:
    """The loss and its gradient."""
    for parameter in lm.trainable().values():
        parameter.grad = None
    scores = score(lm, batch, 0.9, None, layout)
    total, sums = Objective(LossOptions(entropy_bonus=0.1)).of_part(batch, scores, batch)
    assert 0.2 < sums["clip_fraction"] / batch.num_rows < 0.8
    total.backward()
    gradients = [p.grad.flatten() for p in lm.trainable().values() if p.grad is not None]
    return float(total.detach()), torch.cat(gradients)


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma", "gemma3", "mistral"])
def test_losses_and_gradients_are_those_of_rows(make_model: Any, architecture: str) -> None:
    """Windows of 8 in the last two; also where the backward pass computes every layer again.

    In float64 with our own norms, for those of transformers round to float32.
    """
    lm = model(make_model(architecture))
    batch = rollouts(lm)
    loss, gradient = descended(lm, batch, ROWS)
    for layout in (TREE, THRIFTY):
        same, ours = descended(lm, batch, layout)
        assert same == pytest.approx(loss, rel=1e-5)
        assert (ours - gradient).norm() <= 1e-5 * gradient.norm()

    again = model(make_model(architecture), gradient_checkpointing=True)
    _, ours = descended(again, batch, TREE)
    assert (ours - gradient).norm() <= 1e-5 * gradient.norm()

    lm.model.double()
    loss, gradient = descended(lm, batch, ROWS)
    same, ours = descended(lm, batch, TREE)
    assert same == pytest.approx(loss, rel=1e-10)
    assert (ours - gradient).norm() <= 1e-10 * gradient.norm()
    assert gradient.norm() > 0


def test_a_critic_reads_the_same_states(make_model: Any) -> None:
    lm = model(make_model())
    batch = rollouts(lm)
    critic = ValueHead(int(lm.config.hidden_size), lm.device)
    torch.nn.init.normal_(critic.weight)
    ours, rows = (score(lm, batch, 1.0, critic, layout).values for layout in LAYOUTS)
    assert ours is not None
    assert rows is not None
    assert len(ours) == batch.is_first.sum()
    assert torch.allclose(ours, rows, atol=1e-4)


SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12)


@given(SEQUENCES)
def test_every_token_has_a_node_behind_its_own_prefix(drawn: list[list[int]]) -> None:
    sequences = [np.array(s) for s in drawn]
    for layout in (*LAYOUTS, THRIFTY):
        packed = pack(sequences, layout)
        for i, sequence in enumerate(sequences):
            places = np.arange(len(sequence))
            nodes = packed.nodes(np.full(len(sequence), i), places)
            assert packed.token[nodes].tolist() == sequence.tolist()
            assert packed.parent[nodes].tolist() == [-1, *nodes[:-1]]
    prefixes = {tuple(s[: n + 1]) for s in drawn for n in range(len(s))}
    assert len(pack(sequences, TREE).token) == len(prefixes)


@given(SEQUENCES, st.integers(1, 40), st.floats(0, 3))
def test_parts_keep_every_sequence_within_the_budget(
    drawn: list[list[int]], budget: int, least: float
) -> None:
    sequences = [np.array(s) for s in drawn]
    for layout in (*LAYOUTS, replace(THRIFTY, least=least)):
        found = parts(sequences, layout, budget)
        assert sorted(i for part in found for i in part) == list(range(len(drawn)))
        for part in found:
            size = len(pack([sequences[i] for i in part], layout).token)
            assert size <= budget or len(part) == 1


def test_parts_that_share_less_than_the_whole_are_counted_again() -> None:
    """Twenty-one nodes of twenty, where the whole order shares what a part of it does not."""
    drawn = [
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 1],
        [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0],
        [0, 0, 1, 0, 1],
    ]
    sequences = [np.array(s) for s in drawn]
    layout = Layout(is_tree=True, least=0.3)
    found = parts(sequences, layout, 20)
    assert sorted(i for part in found for i in part) == [0, 1, 2, 3, 4]
    for part in found:
        assert len(pack([sequences[i] for i in part], layout).token) <= 20


def test_what_shares_a_prefix_is_packed_together() -> None:
    prompts = [np.full(50, p) for p in range(4)]
    sequences = [np.append(prompts[i % 4], [7, i]) for i in range(16)]
    found = parts(sequences, TREE, 60)
    assert sorted(sorted(i % 4 for i in part) for part in found) == [[p] * 4 for p in range(4)]


def test_a_prefix_is_shared_where_that_saves_enough() -> None:
    """A beginning of 2 before 4 prompts of 20 with 3 answers of 10 each."""
    rng = np.random.default_rng(0)
    sequences = [
        np.concatenate([[8, 8], np.full(20, prompt), rng.integers(10, 99, 10)])
        for prompt in range(4)
        for _ in range(3)
    ]
    everything, answers, nothing = 2 + 4 * (20 + 30), 4 * (22 + 30), 12 * 32
    for least, nodes in ((0.0, everything), (0.5, answers), (3.0, nothing)):
        packed = pack(sequences, Layout(is_tree=True, least=least))
        assert len(packed.token) == nodes


def test_passes_end_with_a_tree_once_they_are_large_enough() -> None:
    sequences = [np.append(np.full(10, i // 4), [50 + i] * 5) for i in range(16)]
    layout = Layout(is_tree=True, enough=40)
    assert sorted(len(part) for part in parts(sequences, layout, 1000)) == [8, 8]
    assert len(parts(sequences, replace(layout, enough=25), 1000)) == 4


def test_metrics_say_how_many_tokens_were_saved(make_model: Any) -> None:
    tokens = 32 + 32 + 34 + 37
    for layout, nodes in ((TREE, 20 + 12 + 9 + 30), (ROWS, 4 * 37)):
        one = Learner(model(make_model()), LearnOptions(minibatches=1), 1.0)
        one.packing.layout = layout
        metrics = one.update(rollouts(one.lm), 1e-3, seed=0).metrics
        assert metrics["tokens_saved"] == pytest.approx(1 - nodes / tokens)


def test_trees_that_differ_from_rows_are_found_at_the_first_batch(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, right = model(make_model()), model(make_model())
    wrong = lm.tree_states

    def blind(ids: torch.Tensor, tree: Any) -> torch.Tensor:
        """The first node of a branch loses its place."""
        return wrong(ids, tree).roll(1, dims=0)

    monkeypatch.setattr(lm, "tree_states", blind)
    one = Learner(lm, LearnOptions(minibatches=1), 1.0)
    batch = rollouts(lm)
    assert one.packing.layout.is_tree
    done = one.update(batch, 1e-3, seed=0)
    assert "as token trees the log-probs of qwen3 differ by up to" in done.notes[0][1]
    assert not one.packing.layout.is_tree
    same = Learner(right, LearnOptions(minibatches=1, packing="rows"), 1.0)
    wanted = same.update(batch, 1e-3, seed=0)
    assert done.metrics == wanted.metrics
    assert (wanted.notes, one.update(batch, 1e-3, seed=1).notes) == ([], [])


def test_an_architecture_without_trees_is_computed_as_rows_and_says_so() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, sliding_window=8,
        attn_implementation="sdpa",
    )  # fmt: skip
    lm = LanguageModel(Gemma2ForCausalLM(config))
    packing = Packing(lm, "auto")
    assert not packing.layout.is_tree
    assert packing.take_notes() == [
        "batches are computed as padded rows: gemma2 has no token trees here, for it caps its "
        "attention scores"
    ]
    assert packing.take_notes() == []
    assert Packing(lm, "rows").take_notes() == []
