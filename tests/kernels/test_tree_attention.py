"""Attention in trees: every branch gets what it would get alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from turnhalle.kernels.tree_attention import block_mask, dense_mask, tree_attention, tree_of

FOREST = [-1, 0, 1, 1, 3, 4, 0, 6, -1, 8]
"""Two roots; depth-first."""
BRANCHES = [[0, 1, 2], [0, 1, 3, 4, 5], [0, 6, 7], [8, 9]]


def random_forest(count: int, seed: int) -> list[int]:
    """Chains of about ten nodes, forks anywhere above, and a new root now and then."""
    rng = random.Random(seed)
    parents: list[int] = []
    path: list[int] = []
    for node in range(count):
        if rng.random() < 0.1:
            path = path[: rng.randint(0, len(path))] if rng.random() < 0.8 else []
        parents.append(path[-1] if path else -1)
        path.append(node)
    return parents


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


@pytest.mark.parametrize("parents", [[-1, 2, 0], [0], [-1, 0, 0, 1], [-1, -1, 0], [-1, 0, -2]])
def test_nodes_out_of_depth_first_order_are_refused(parents: list[int]) -> None:
    with pytest.raises(ValueError, match="put nodes in depth-first order"):
        tree_of(parents)


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


@pytest.mark.parametrize("window", [None, 1, 7, 40])
@pytest.mark.parametrize("seed", range(4))
def test_pieces_are_the_dense_mask(window: int | None, seed: int) -> None:
    """Values and gradients of forests of 300 nodes, against PyTorch's attention with a mask."""
    tree = tree_of(random_forest(300, seed))
    inputs = [heads(4, 300, 0), heads(2, 300, 1), heads(2, 300, 2)]
    for tensor in inputs:
        tensor.requires_grad_(True)
    ours = tree_attention(*inputs, tree, window=window)
    mask = dense_mask(tree, window)
    plain = torch.nn.functional.scaled_dot_product_attention(
        *inputs, attn_mask=mask, enable_gqa=True
    )
    assert torch.allclose(ours, plain, atol=1e-12)
    upstream = heads(4, 300, 3)
    pairs = zip(*(torch.autograd.grad(out, inputs, upstream) for out in (ours, plain)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


def test_sixteen_bits_are_rounded_once_at_the_end() -> None:
    """Of forests with many pieces on a CPU, whose sums are kept in float32."""
    tree = tree_of(random_forest(300, 0))
    narrow = [heads(4, 300, 0), heads(2, 300, 1), heads(2, 300, 2), heads(4, 300, 3)]
    narrow = [tensor.bfloat16() for tensor in narrow]
    exact = [tensor.double() for tensor in narrow]
    results = []
    for *inputs, upstream in (narrow, exact):
        for tensor in inputs:
            tensor.requires_grad_(True)
        out = tree_attention(*inputs, tree)
        results.append((out, *torch.autograd.grad(out, inputs, upstream)))
    for ours, expected in zip(*results, strict=True):
        assert ours.dtype == torch.bfloat16
        assert torch.allclose(ours.double(), expected, rtol=2**-8, atol=1e-5)


def test_a_prefix_is_read_once_by_all_its_branches() -> None:
    """Nine chains; one more rectangle, of all branches by the prompt."""
    parents = [*range(-1, 9)]
    for branch in range(8):
        first = 10 + 5 * branch
        parents += [9, *range(first, first + 4)]
    pieces = tree_of(parents).pieces(None)
    assert [piece.is_causal for piece in pieces] == [True] * 9 + [False]
    assert (pieces[-1].queries, pieces[-1].keys) == (slice(10, 50), slice(0, 10))
    assert all(piece.mask is None for piece in pieces)


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
    assert not lm.no_trees
    tree = tree_of(parents)
    ids = torch.randint(3, 250, (len(parents),), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = lm.tree_states(ids, tree)
        for leaf in (11, 20, 23):
            branch = ancestors(parents.tolist(), leaf)
            alone = lm.hidden_states(ids[branch][None])[0]
            a, b = (lm.head(h).log_softmax(-1) for h in (together[branch], alone))
            assert (a - b).abs().max() < 1e-4
