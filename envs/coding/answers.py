"""The code of an answer: its last complete fence, or all of it where there is none."""

from __future__ import annotations

import re

from ..quoting import as_utf8

MAX_CHARACTERS = 20_000
"""Longer code is no answer: nothing of it is run."""

_OPEN = re.compile(r" {0,3}(`{3,})[ \t]*([\w+.-]*)[ \t]*", re.ASCII)


def code_of(text: str) -> str | None:
    """The code to run, as text that UTF-8 can hold; None where it is too long.

    A fence begins with a line of three backticks or more (and the name of a language) and ends with
    a line of as many alone. The last one that ends counts, whatever was written around it.
    """
    found: str | None = None
    body: list[str] = []
    mark = ""
    for line in text.split("\n"):
        bare = line.rstrip(" \t\r")
        if not mark:
            opened = _OPEN.fullmatch(bare)
            if opened:
                mark, body = opened[1], []
        elif bare.lstrip(" ") == mark:
            found, mark = "\n".join(body) + "\n", ""
        else:
            body.append(line)
    code = text.removesuffix("\n") + "\n" if found is None else found
    return None if len(code) > MAX_CHARACTERS else as_utf8(code)
