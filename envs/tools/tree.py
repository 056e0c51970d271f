"""A tree of small text files in memory: the world of `Workspace-v0`."""

from __future__ import annotations

import re

from .tool import ToolError

MAX_FILES, MAX_PATH, MAX_TEXT = 200, 100, 4000
"""Files in a tree, characters of a path and of a file: an episode cannot fill the memory."""
_PATH = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)


class Tree:
    """Files by path (`bills/may.txt`); folders are where files are."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = dict(files)

    def below(self, folder: str) -> list[str]:
        """Paths of all files in and below a folder; "." is everything."""
        start = "" if folder in (".", "") else folder.rstrip("/") + "/"
        found = sorted(path for path in self.files if path.startswith(start))
        if not found:
            raise ToolError(f"no folder {folder[:40]!r}; folders: {', '.join(self._folders())}")
        return found

    def read(self, path: str) -> str:
        """The text of a file."""
        if path not in self.files:
            raise ToolError(f"no file {path[:40]!r}; list_files shows what there is")
        return self.files[path]

    def write(self, path: str, text: str) -> None:
        """Create or overwrite a file."""
        if path not in self.files:
            self._require_room(path)
        if len(text) > MAX_TEXT:
            raise ToolError(f"a file holds {MAX_TEXT} characters, this has {len(text)}")
        self.files[path] = text

    def move(self, path: str, to: str) -> None:
        """Give a file another path; never onto another file."""
        text = self.read(path)
        if to in self.files:
            raise ToolError(f"there is a file {to} already")
        self._require_room(to)
        del self.files[path]
        self.files[to] = text

    def delete(self, path: str) -> None:
        """Remove a file."""
        self.read(path)
        del self.files[path]

    def search(self, text: str) -> list[str]:
        """Lines that hold a text, each with its path in front."""
        if not text.strip():
            raise ToolError("give a text to search for")
        return [
            f"{path}: {line}"
            for path in sorted(self.files)
            for line in self.files[path].split("\n")
            if text in line
        ]

    def _folders(self) -> list[str]:
        return sorted({path.rpartition("/")[0] for path in self.files} - {""})

    def _require_room(self, path: str) -> None:
        if len(path) > MAX_PATH or not _PATH.fullmatch(path):
            raise ToolError(f"a path reads like bills/may.txt, got {path[:40]!r}")
        above = [path[:at] for at, letter in enumerate(path) if letter == "/"]
        if any(folder in self.files for folder in above):
            raise ToolError(f"{path} would lie below a file")
        if any(other.startswith(f"{path}/") for other in self.files):
            raise ToolError(f"{path} is a folder")
        if len(self.files) >= MAX_FILES:
            raise ToolError(f"the workspace holds {MAX_FILES} files")
