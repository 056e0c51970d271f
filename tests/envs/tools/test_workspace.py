"""The workspace: a small tree of files."""

from __future__ import annotations

import pytest

import turnhalle as th
from turnhalle.envs.tools.formats import render_call
from turnhalle.envs.tools.tool import ToolError
from turnhalle.envs.tools.tree import MAX_FILES, MAX_TEXT, Tree
from turnhalle.envs.tools.workspace import Workspace


@pytest.fixture
def tree() -> Tree:
    return Tree({"a/one.txt": "x 1\ny 2", "a/b/two.txt": "x 3", "top.txt": ""})


def test_folders_are_where_files_are(tree: Tree) -> None:
    assert tree.below(".") == ["a/b/two.txt", "a/one.txt", "top.txt"]
    assert tree.below("a/") == ["a/b/two.txt", "a/one.txt"]
    with pytest.raises(ToolError, match="no folder 'b'; folders: a, a/b"):
        tree.below("b")


def test_search_finds_lines(tree: Tree) -> None:
    assert tree.search("x") == ["a/b/two.txt: x 3", "a/one.txt: x 1"]
    with pytest.raises(ToolError, match="give a text"):
        tree.search(" ")


@pytest.mark.parametrize(
    "path", ["", "/a", "../a", "a/../b", "a//b", "a/", ".hidden", "a b", "a\n", "é.txt", "a" * 101]
)
def test_other_paths_are_refused(tree: Tree, path: str) -> None:
    with pytest.raises(ToolError, match="a path reads like"):
        tree.write(path, "x")


def test_a_file_is_no_folder_and_a_folder_no_file(tree: Tree) -> None:
    with pytest.raises(ToolError, match="below a file"):
        tree.write("top.txt/x", "")
    with pytest.raises(ToolError, match="is a folder"):
        tree.move("top.txt", "a/b")


def test_a_move_never_overwrites(tree: Tree) -> None:
    with pytest.raises(ToolError, match="already"):
        tree.move("top.txt", "a/one.txt")
    tree.move("top.txt", "a/three.txt")
    assert tree.below("a") == ["a/b/two.txt", "a/one.txt", "a/three.txt"]


def test_the_memory_cannot_be_filled(tree: Tree) -> None:
    with pytest.raises(ToolError, match="4000 characters, this has 4001"):
        tree.write("top.txt", "x" * (MAX_TEXT + 1))
    full = Tree({f"n{number}": "" for number in range(MAX_FILES)})
    with pytest.raises(ToolError, match=f"holds {MAX_FILES} files"):
        full.write("more", "")


def test_space_at_the_end_of_a_file_does_not_matter_but_all_else_does() -> None:
    env = th.make("workspace")
    assert isinstance(env, Workspace)
    for task in range(100):
        env.reset(options={"task": task})
        if env.plan[-1][0] == "write":
            break
    (_, write), answer = env.plan[-1], env.goal.answer
    for text, success in ((write["text"] + "\n", True), (write["text"] + "0", False)):
        twin = env.fork()
        twin.step(render_call("write", path=write["path"], text=text))
        assert twin.step(render_call("done", answer=answer))[4]["success"] is success


def test_every_kind_of_request_is_drawn() -> None:
    env, kinds = th.make("workspace", difficulty=3), set()
    for task in range(50):
        env.reset(options={"task": task})
        kinds |= {request["kind"] for request in env.instance["requests"]}
    assert kinds == {"file", "set", "sum"}
