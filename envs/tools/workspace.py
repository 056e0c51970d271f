"""`Workspace-v0`: a folder of small files, in which things are found, filed, summed and set."""

from __future__ import annotations

import random
from typing import Any

from ..tasks import Instance
from .domain import MAX_CALLS, Call, Domain, Goal
from .tool import tool
from .tree import Tree

SERVICES = ("cache", "gateway", "mailer", "queue", "search", "video")
KEYS = ("port", "workers", "timeout", "retries", "quota")
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august")
SUBJECTS = ("roof", "garden", "boiler", "fence", "lift", "lawn", "cellar", "gate", "stairs", "lamp")
GOODS = ("nails", "paint", "rope", "sand", "tiles", "timber", "wire", "glue")
_WORDS = {
    "file": "Move the letter that mentions {code} from letters to archive; keep its name.",
    "set": "Set {key} to {value} in config/{service}.ini; leave its other lines as they are.",
    "sum": "Write the sum of all amounts in bills/{year} to bills/{year}/total.txt.",
}
_LAST = {
    "file": "Answer with the name of the file that mentions {code}, such as roof.txt.",
    "set": "Answer with the old value of {key} in config/{service}.ini.",
    "sum": "Answer with the sum.",
}


class Workspace(Domain):
    """A folder of small text files: list, read, write, move, delete and search."""

    system_prompt = (
        "You keep a folder of text files by its tools. Writing a file replaces all of its text. "
        "Do what is asked, change nothing else, and call done with the answer in the end."
    )

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """Letters, settings and bills, and one to three requests."""
        subjects = rng.sample(SUBJECTS, min(3 + difficulty, len(SUBJECTS)))
        codes = rng.sample(range(100, 1000), len(subjects))
        letters = {f"letters/{s}.txt": _letter(s, c) for s, c in zip(subjects, codes, strict=True)}
        files = letters | {f"config/{s}.ini": _settings(rng) for s in rng.sample(SERVICES, 3)}
        year, bills = rng.randint(2001, 2030), rng.choice((2, 4) if difficulty > 2 else (2,))
        for month in rng.sample(MONTHS, bills):
            goods = rng.sample(GOODS, min(difficulty, 3))
            text = "\n".join(f"{good} {rng.randint(2, 60)}" for good in goods)
            files[f"bills/{year}/{month}.txt"] = text
        files = {path: files[path] for path in sorted(files)}
        few, most = {1: (3, 4), 2: (5, 6)}.get(difficulty, (7, MAX_CALLS))
        needs = {"file": 2, "set": 2, "sum": 2 + bills}
        while True:
            kinds = rng.choices(("file", "set", "sum"), k=rng.randint(1, min(difficulty, 3)))
            is_possible = kinds.count("sum") < 2 and few <= 1 + sum(needs[k] for k in kinds) <= most
            requests = [_draw_request(rng, kind, files, year) for kind in kinds]
            if is_possible and len({str(r.get("code", r.get("service"))) for r in requests}) == len(
                requests
            ):
                return {"files": files, "requests": requests}

    def content(self, instance: Instance) -> Any:
        """The requests, and the files that they are about."""
        files, requests = instance["files"], instance["requests"]
        return [
            requests,
            {p: t for p, t in files.items() if any(_is_of(r, p, t) for r in requests)},
        ]

    def question(self) -> str:
        """The requests, and what to answer."""
        requests = self.instance["requests"]
        lines = [_WORDS[request["kind"]].format(**request) for request in requests]
        return " ".join([*lines, _LAST[requests[-1]["kind"]].format(**requests[-1])])

    def opening(self) -> dict[str, str]:
        """The files of the instance."""
        files: dict[str, str] = self.instance["files"]
        return files

    def load(self, world: dict[str, str]) -> None:
        """Set the files up."""
        self.tree = Tree(world)

    def dump(self) -> dict[str, str]:
        """All files."""
        return dict(self.tree.files)

    def outcome(self) -> dict[str, str]:
        """All files, but for space around their text."""
        return {path: text.strip() for path, text in self.tree.files.items()}

    def find_goal(self) -> Goal:
        """Do the requests in order, in a tree of its own."""
        tree, answer = Tree(self.instance["files"]), ""
        for request in self.instance["requests"]:
            answer = _SOLVERS[request["kind"]](tree, request)[1]
        return Goal(tree.files, int(answer) if answer.isdigit() else answer)

    def find_plan(self) -> list[Call]:
        """Look before each deed."""
        tree, requests = Tree(self.instance["files"]), self.instance["requests"]
        return [call for r in requests for call in _SOLVERS[r["kind"]](tree, r)[0]]

    def repair(self, goal: Goal) -> Call | None:
        """Move back what was moved, delete what is too much, write what is wrong or missing."""
        wanted, files = goal.outcome, self.outcome()
        missing = [path for path in wanted if path not in files]
        for path in [path for path in files if path not in wanted]:
            for to in missing:
                if wanted[to] == files[path]:
                    return "move", {"path": path, "to": to}
            return "delete", {"path": path}
        for path, text in wanted.items():
            if files.get(path) != text:
                return "write", {"path": path, "text": text}
        return None

    def blunders(self, rng: random.Random) -> list[Call]:
        """Touch the wrong file, or write without reading."""
        request = rng.choice(self.instance["requests"])
        path = rng.choice(list(self.tree.files) or ["letters/roof.txt"])
        wrong: list[Call] = [("read", {"path": path})]
        if request["kind"] == "file":
            return [*wrong, ("move", {"path": path, "to": f"archive/{path.split('/')[-1]}"})]
        if request["kind"] == "set":
            target, text = (
                f"config/{request['service']}.ini",
                f"{request['key']}={request['value']}",
            )
        else:
            target, text = f"bills/{request['year']}/total.txt", str(rng.randint(2, 200))
        return [*wrong, ("write", {"path": target, "text": text})]

    @tool
    def list_files(self, folder: str = ".") -> str:
        """The paths of all files in a folder and below."""
        return "\n".join(self.tree.below(folder))

    @tool
    def read(self, path: str) -> str:
        """The text of a file."""
        return self.tree.read(path)

    @tool
    def write(self, path: str, text: str) -> str:
        """Create a file, or replace all of its text."""
        self.tree.write(path, text)
        return f"{path} holds {len(text)} characters"

    @tool
    def move(self, path: str, to: str) -> str:
        """Move a file to another path."""
        self.tree.move(path, to)
        return f"{path} is {to} now"

    @tool
    def delete(self, path: str) -> str:
        """Delete a file."""
        self.tree.delete(path)
        return f"{path} is gone"

    @tool
    def search(self, text: str) -> str:
        """The lines that hold a text, each with its file."""
        return "\n".join(self.tree.search(text)) or "nothing found"


def _letter(subject: str, code: int) -> str:
    return f"About the {subject}.\nOur reference: KX-{code}."


def _settings(rng: random.Random) -> str:
    return "\n".join(f"{key}={rng.randint(2, 99)}" for key in rng.sample(KEYS, 3))


def _draw_request(
    rng: random.Random, kind: str, files: dict[str, str], year: int
) -> dict[str, Any]:
    """One thing to do."""
    if kind == "file":
        path = rng.choice([path for path in files if path.startswith("letters/")])
        return {"kind": kind, "code": files[path].split()[-1].rstrip(".")}
    if kind == "set":
        path = rng.choice([path for path in files if path.startswith("config/")])
        key, old = rng.choice(files[path].split("\n")).split("=")
        value = rng.choice([n for n in range(2, 100) if n != int(old)])
        return {"kind": kind, "service": path[7:-4], "key": key, "value": value}
    return {"kind": kind, "year": year}


def _is_of(request: dict[str, Any], path: str, text: str) -> bool:
    """Is a file one that a request is about?"""
    if request["kind"] == "file":
        return request["code"] in text
    if request["kind"] == "set":
        return path == f"config/{request['service']}.ini"
    return path.startswith(f"bills/{request['year']}/")


def _file(tree: Tree, request: dict[str, Any]) -> tuple[list[Call], str]:
    found = tree.search(request["code"])[0].split(":")[0]
    name = found.removeprefix("letters/")
    tree.move(found, f"archive/{name}")
    look: Call = ("search", {"text": request["code"]})
    return [look, ("move", {"path": found, "to": f"archive/{name}"})], name


def _set(tree: Tree, request: dict[str, Any]) -> tuple[list[Call], str]:
    path = f"config/{request['service']}.ini"
    pairs = dict(line.split("=") for line in tree.read(path).split("\n"))
    old, pairs[request["key"]] = pairs[request["key"]], str(request["value"])
    text = "\n".join(f"{key}={value}" for key, value in pairs.items())
    tree.write(path, text)
    return [("read", {"path": path}), ("write", {"path": path, "text": text})], old


def _sum(tree: Tree, request: dict[str, Any]) -> tuple[list[Call], str]:
    folder = f"bills/{request['year']}"
    paths = tree.below(folder)
    lines = [line for path in paths for line in tree.read(path).split("\n")]
    total = str(sum(int(line.split()[-1]) for line in lines))
    tree.write(f"{folder}/total.txt", total)
    reads: list[Call] = [("read", {"path": path}) for path in paths]
    write: Call = ("write", {"path": f"{folder}/total.txt", "text": total})
    return [("list_files", {"folder": folder}), *reads, write], total


_SOLVERS = {"file": _file, "set": _set, "sum": _sum}
