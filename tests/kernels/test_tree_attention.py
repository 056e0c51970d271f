"""Attention in trees: every branch gets what it would get alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from turnhalle.kernels.tree_attention import block_mask, dense_mask, tree_attention, tree_of

FOREST = [-1, 0, 1, 1, 3, 0, -1, 5, 6, 4]
"""Two roots; branches lie apart: 0 1 2, 0 1 3 4 9, 0 5 7, 6 8."""
BRANCHES = [[0, 1, 2], [0, 1, 3, 4, 9], [0, 5, 7], [6, 8]]


def random_forest(count: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [-1 if i == 0 or rng.random() < 0.02 else rng.randint(max(0, i - 9), i - 1)
            for i in range(count)]  # fmt: skip


def ancestors(parents: list[int], node: int) -> list[int]:
    path = [node]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    return path[::-1]


@pytest.mark.parametrize("parents", [FOREST, random_forest(300, 0), [-1], []])
def test_the_mask_is_who_is_above_whom(parents: list[int]) -> None:
    tree = tree_of(parents)
    expected = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for node in range(len(parents)):
        path = ancestors(parents, node)
        expected[node, path] = True
        assert tree.depth[node] == len(path) - 1
    assert torch.equal(dense_mask(tree)[0, 0], expected)


def test_depth_first_order_keeps_branches_together() -> None:
    assert tree_of(FOREST).order.tolist() == [0, 1, 2, 3, 4, 9, 5, 7, 6, 8]


def test_a_child_before_its_parent_is_refused() -> None:
    with pytest.raises(ValueError, match="node 1 comes before its parent 2; put parents first"):
        tree_of([-1, 2, 0])
    with pytest.raises(ValueError, match="node 0 comes before its parent 0"):
        tree_of([0])


def heads(count: int, nodes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, nodes, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("window", [None, 3])
def test_values_and_gradients_are_those_of_the_branches_alone(window: int | None) -> None:
    """Grouped heads; the gradient of a shared node is the sum over its branches."""
    inputs = [heads(4, 10, 0), heads(2, 10, 1), heads(2, 10, 2)]
    for tensor in inputs:
        tensor.requires_grad_(True)
    together = tree_attention(*inputs, tree_of(FOREST), scale=0.3, window=window)
    alone: torch.Tensor = torch.zeros(())
    ours: torch.Tensor = torch.zeros(())
    for branch in BRANCHES:
        q, k, v = (tensor[:, :, branch] for tensor in inputs)
        places = torch.arange(len(branch))
        gap = places[:, None] - places[None, :]
        mask = (gap >= 0) & (gap < (window or 99))
        scores = (q @ k.repeat_interleave(2, 1).mT * 0.3).masked_fill(~mask, -torch.inf)
        expected = scores.softmax(-1) @ v.repeat_interleave(2, 1)
        assert torch.allclose(together[:, :, branch], expected)
        alone = alone + expected.square().sum()
        ours = ours + together[:, :, branch].square().sum()
    pairs = zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(alone, inputs), strict=True)
    assert all(torch.allclose(a, b) for a, b in pairs)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("window", [None, 4])
def test_the_block_mask_of_flex_attention_says_the_same(window: int | None) -> None:
    """300 nodes: three blocks, the last not full. Not compiled, as CUDA would."""
    parents = random_forest(300, 3)
    tree = tree_of(parents)
    q, k, v = heads(2, 300, 0), heads(2, 300, 1), heads(2, 300, 2)
    mask = block_mask(tree, window)
    plain = tree_attention(q, k, v, tree, window=window)
    assert torch.allclose(flex_attention(q, k, v, block_mask=mask), plain, atol=1e-6)
    assert mask.shape == (1, 1, 300, 300)


def test_blocks_of_other_branches_are_skipped() -> None:
    """Eight branches of 128 behind a prompt of 128, depth-first: 9 + 8 blocks of 81."""
    parents = [*range(-1, 127)]
    for branch in range(8):
        parents += [127, *range(128 * (branch + 1), 128 * (branch + 2) - 1)]
    mask = block_mask(tree_of(parents))
    computed = mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum()
    assert int(computed) == 17


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma", "gemma3", "mistral"])
def test_a_model_scores_a_tree_as_its_branches(make_model: Any, architecture: str) -> None:
    """Log-probs of every branch to 1e-4 nats, with windows shorter than the branches."""
    from turnhalle.agents.models import ModelOptions, load_model

    folder = make_model(architecture)
    lm = load_model(ModelOptions(name=str(folder), precision="fp32", device="cpu"))
    parents = np.array([*range(-1, 11), 5, *range(12, 20), 5, 21, 22])
    tree = tree_of(parents)
    ids = torch.randint(3, 250, (len(parents),), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = lm.tree_states(ids, tree)
        for leaf in (11, 20, 23):
            branch = ancestors(parents.tolist(), leaf)
            alone = lm.hidden_states(ids[branch][None])[0]
            a, b = (lm.head(h).log_softmax(-1) for h in (together[branch], alone))
            assert (a - b).abs().max() < 1e-4
