"""Draw docs/tokens.svg: four rollouts of the tiny policy as a token tree, under two histories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from turnhalle.agents.chat import Chat, ChatOptions, load_chat
from turnhalle.agents.core import Group
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.rollout import Job, rollout_groups
from turnhalle.agents.tree import TokenTree, grow_tree
from turnhalle.envs.registry import resolve

TASK, ROLLOUTS = 56, 4
CHARACTER, LINE, WIDTH = 6.05, 24, 1090
GREY, GREEN = "#eeeeee", "#cdeac8"
HISTORIES = {
    "append: what was said stays": ChatOptions(history="append"),
    "window of one turn: the history is rewritten": ChatOptions(history="window", window=1),
}


def play(chat: Chat) -> Group:
    """Four rollouts of one task of `tools`."""
    lm = load_model(ModelOptions(precision="fp32", device="cpu"))
    policy = LLMPolicy("tiny", TransformersEngine(lm), chat, Sampling())
    return rollout_groups(resolve("tools"), policy, [Job("train", TASK)], ROLLOUTS)[0]


def chains(tree: TokenTree) -> Iterator[tuple[int, int]]:
    """First and last node of every run of tokens of one kind without a fork in it."""
    num_rows = [0] * tree.num_nodes
    for node in tree.node.tolist():
        num_rows[node] += 1
    num_children = [0] * tree.num_nodes
    for parent in tree.parent.tolist():
        if parent >= 0:
            num_children[parent] += 1
    first = 0
    for node in range(tree.num_nodes):
        ends = node + 1 == tree.num_nodes or tree.parent[node + 1] != node
        if ends or num_children[node] > 1 or num_rows[node] != num_rows[node + 1]:
            yield first, node
            first = node + 1


def panel(title: str, tree: TokenTree, chat: Chat, top: float) -> tuple[list[str], float]:
    """The shapes of one tree, the first node at the left, and the height they take."""
    rows = [int((tree.node == node).sum()) for node in range(tree.num_nodes)]
    shapes = [f'<text x="10" y="{top + 16}" font-weight="bold">{escape(title)}</text>']
    right: dict[int, tuple[float, float]] = {-1: (10.0, top + LINE)}
    y, last = top + LINE, -1
    for first, end in chains(tree):
        parent = int(tree.parent[first])
        x, from_y = right[parent]
        y += LINE if parent != last else 0
        text = chat.tokenizer.decode(tree.token[first : end + 1]).replace("\n", "⏎")
        number = rows[first]
        count = f" ×{number}" if number > 1 else ""
        width = CHARACTER * len(text + count) + 6
        colour = GREEN if number else GREY
        if y > from_y:
            shapes.append(
                f'<path d="M{x - 4:.0f} {from_y + 18} V{y + 10} H{x + 2:.0f}" fill="none" '
                'stroke="#999"/>'
            )
        shapes.append(
            f'<rect x="{x + 2:.1f}" y="{y}" width="{width - 3:.1f}" height="19" rx="4" '
            f'fill="{colour}"/><text x="{x + 4:.1f}" y="{y + 13}">{escape(text)}'
            f'<tspan fill="#2a7a1f" font-weight="bold">{count}</tspan></text>'
        )
        right[end], last = (x + width, y), end
    return shapes, y + 1.5 * LINE - top


def main() -> None:
    """Write docs/tokens.svg."""
    shapes: list[str] = []
    top = 6.0
    for title, options in HISTORIES.items():
        chat = load_chat("tiny", options)
        group = play(chat)
        tree = grow_tree(group.trajectories)
        fed = sum(len(tree.path(leaf)) for leaf in tree.leaf)
        title = f"{title} ({fed} tokens in {len(tree.leaf)} sequences, {tree.num_nodes} nodes)"
        drawn, height = panel(title, tree, chat, top)
        shapes += drawn
        top += height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" '
    style = 'font-family="monospace" font-size="10">'
    background = f'<rect width="{WIDTH}" height="{top:.0f}" fill="white"/>'
    target = Path(__file__).with_name("tokens.svg")
    target.write_text("\n".join([head + style, background, *shapes, "</svg>"]) + "\n")
    print(target)


if __name__ == "__main__":
    main()
