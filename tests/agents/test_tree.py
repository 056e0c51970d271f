"""The token tree: nothing is lost in it, nothing is there twice, and every sample keeps its row."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from turnhalle.agents.core import Segment, Trajectory, Turn
from turnhalle.agents.tree import TokenTree, branches, grow_tree
from turnhalle.envs.tasks import Task

TASK = Task("x/Y-v0", "train", 0, 1, {}, 0)


def trajectory(*turns: list[Segment], sample: int = 0) -> Trajectory:
    return Trajectory(TASK, sample, [Turn("", "", 0.0, {}, segments) for segments in turns])


def said(*tokens: int, parent: int | None = None) -> Segment:
    return Segment(list(tokens), parent=parent)


def drew(*tokens: int, score: float = -0.5) -> Segment:
    return Segment(list(tokens), [score - i for i in range(len(tokens))], 1)


def tokens_of(tree: TokenTree, leaf: int) -> list[int]:
    return tree.token[tree.path(leaf)].tolist()


def reference(played: Trajectory) -> list[tuple[list[int], list[tuple[int, int, float]]]]:
    """Branches by the book, a token at a time: tokens; position, turn and log-prob of samples."""
    done: list[tuple[list[int], list[tuple[int, int, float]]]] = []
    path: list[int] = []
    rows: list[tuple[int, int, float]] = []
    for number, turn in enumerate(played.turns):
        for segment in turn.segments:
            if segment.parent is not None:
                done.append((path, rows))
                path, rows = path[: segment.parent + 1], []
            for token, score in zip(
                segment.token_ids, segment.logprobs or [None] * len(segment.token_ids), strict=True
            ):
                if score is not None:
                    rows.append((len(path), number, score))
                path = [*path, token]
    done.append((path, rows))
    return [(path, rows) for path, rows in done if rows]


@st.composite
def groups(draw: st.DrawFn) -> list[Trajectory]:
    """Trajectories over three tokens, so that they share much; with branches and forks."""
    token = st.integers(0, 2)
    group: list[Trajectory] = []
    for sample in range(draw(st.integers(1, 5))):
        turns: list[Turn] = []
        start, parent = 0, None
        if group and draw(st.booleans()):
            parent = draw(st.sampled_from(group))
            start = draw(st.integers(0, len(parent.turns)))
            turns = list(parent.turns[:start])
        length = sum(len(s.token_ids) for t in turns for s in t.segments)
        for _ in range(draw(st.integers(1, 3))):
            segments = [said(*draw(st.lists(token, min_size=1, max_size=4)))]
            if length and draw(st.booleans()):
                # Positions of the branch before, of which there are at least as many as this.
                last = max(len(p) for p, _ in reference(Trajectory(TASK, 0, turns)))
                shortest = min(len(p) for p, _ in reference(Trajectory(TASK, 0, turns)))
                assert last >= shortest > 0
                segments[0].parent = draw(st.integers(-1, shortest - 1))
            drawn = draw(st.lists(token, min_size=1, max_size=4))
            segments.append(drew(*drawn, score=-draw(st.integers(1, 9)) / 4))
            turns = [*turns, Turn("", "", 0.0, {}, segments)]
            length += sum(len(s.token_ids) for s in segments)
        child = Trajectory(TASK, sample, turns)
        if parent is not None:
            child.fork_parent, child.fork_turn = parent.sample, start
        group.append(child)
    return group


def test_a_straight_trajectory_is_its_positions() -> None:
    tree = grow_tree([trajectory([said(5, 6), drew(7)], [said(8), drew(9, 9)])])
    assert tree.token.tolist() == [5, 6, 7, 8, 9, 9]
    assert tree.parent.tolist() == [-1, 0, 1, 2, 3, 4]
    assert tree.position.tolist() == [0, 1, 2, 3, 4, 5]
    assert tree.node.tolist() == [2, 4, 5]
    assert tree.turn.tolist() == [0, 1, 1]
    assert tree.logprob.tolist() == [-0.5, -0.5, -1.5]


def test_equal_samples_share_nodes_and_keep_their_rows() -> None:
    twins = [trajectory([said(1, 2), drew(3, score=-1.0)], sample=i) for i in range(2)]
    tree = grow_tree(twins)
    assert tree.num_nodes == 3
    assert tree.node.tolist() == [2, 2]
    assert tree.trajectory.tolist() == [0, 1]


def test_a_rewritten_history_is_a_branch_with_its_own_samples_only() -> None:
    """Thinking (7 7) is sampled and trained in turn 0, and gone from the context of turn 1."""
    played = trajectory([said(1, 2), drew(7, 7, 3)], [said(3, 4, parent=1), drew(5)])
    straight, rewritten = branches(played)
    assert straight.token_ids.tolist() == [1, 2, 7, 7, 3]
    assert straight.position.tolist() == [2, 3, 4]
    assert rewritten.token_ids.tolist() == [1, 2, 3, 4, 5]
    assert rewritten.position.tolist() == [4]
    tree = grow_tree([played])
    assert tree.num_nodes == 8
    assert sorted(tokens_of(tree, leaf) for leaf in tree.leaf) == [
        [1, 2, 3, 4, 5],
        [1, 2, 7, 7, 3],
    ]


def test_trajectories_without_tokens_are_left_out() -> None:
    tree = grow_tree([trajectory([]), trajectory(), trajectory([said(1)])])
    assert tree.num_nodes == tree.num_rows == len(tree.leaf) == 0


@settings(max_examples=120, deadline=None, database=None, derandomize=True)
@given(groups())
def test_branches_are_those_of_the_book(group: list[Trajectory]) -> None:
    for played in group:
        expected = reference(played)
        found = branches(played)
        assert [b.token_ids.tolist() for b in found] == [path for path, _ in expected]
        for branch, (_, rows) in zip(found, expected, strict=True):
            assert branch.position.tolist() == [p for p, _, _ in rows]
            assert branch.turn.tolist() == [t for _, t, _ in rows]
            assert np.allclose(branch.logprob, [s for _, _, s in rows])


@settings(max_examples=120, deadline=None, database=None, derandomize=True)
@given(groups())
def test_every_sequence_can_be_read_back_and_no_token_is_there_twice(
    group: list[Trajectory],
) -> None:
    tree = grow_tree(group)
    expected = [(i, path) for i, played in enumerate(group) for path, _ in reference(played)]
    read = [tokens_of(tree, leaf) for leaf in tree.leaf]
    assert list(zip(tree.leaf_trajectory.tolist(), read, strict=True)) == expected
    prefixes = {tuple(path[: n + 1]) for _, path in expected for n in range(len(path))}
    assert tree.num_nodes == len(prefixes)
    assert len(set(zip(tree.parent.tolist(), tree.token.tolist(), strict=True))) == tree.num_nodes


@settings(max_examples=120, deadline=None, database=None, derandomize=True)
@given(groups())
def test_nodes_are_in_depth_first_order(group: list[Trajectory]) -> None:
    tree = grow_tree(group)
    assert (tree.parent < np.arange(tree.num_nodes)).all()
    above = np.where(tree.parent < 0, -1, tree.position[tree.parent])
    assert (tree.position == above + 1).all()
    open_path: list[int] = []
    for node, parent in enumerate(tree.parent.tolist()):
        while open_path and open_path[-1] != parent:
            open_path.pop()
        assert parent == (open_path[-1] if open_path else -1)
        open_path.append(node)


@settings(max_examples=120, deadline=None, database=None, derandomize=True)
@given(groups())
def test_every_sample_keeps_its_row(group: list[Trajectory]) -> None:
    tree = grow_tree(group)
    for i, played in enumerate(group):
        mine = tree.trajectory == i
        drawn = [
            (number, token, score)
            for number, turn in enumerate(played.turns)
            for segment in turn.segments
            for token, score in zip(segment.token_ids, segment.logprobs or (), strict=False)
        ]
        rows = zip(tree.turn[mine], tree.token[tree.node[mine]], tree.logprob[mine], strict=True)
        assert [(int(t), int(k), float(s)) for t, k, s in rows] == drawn


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(groups(), st.randoms(use_true_random=False))
def test_the_order_of_trajectories_does_not_matter(group: list[Trajectory], rng: object) -> None:
    tree, turned = grow_tree(group), grow_tree(group[::-1])
    for name in ("token", "parent", "position"):
        assert (getattr(tree, name) == getattr(turned, name)).all()
