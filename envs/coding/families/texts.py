"""Texts: ciphers, words, brackets."""

from __future__ import annotations

import random
from typing import Any

from ..problem import Draft, code, edits


def cipher(rng: random.Random, difficulty: int) -> Draft:
    """Letters moved along the alphabet, the farther the later they come."""
    shift, growth = rng.randint(1, 25), rng.randint(0, difficulty)
    solution = code(
        """
        def f(text):
            out = []
            for i, c in enumerate(text):
                if c.islower():
                    out.append(chr((ord(c) - 97 + $shift$growth) % 26 + 97))
                else:
                    out.append(c)
            return "".join(out)
        """,
        shift=shift,
        growth=f" + {growth} * i" if growth else "",
    )
    wrong = edits(
        solution,
        (f"+ {shift}", f"- {shift}"),
        (" % 26", ""),
        ("c.islower()", "c.isalpha()"),
    )
    more = f", and {growth} more for every character before it" if growth else ""
    task = (
        f"Write f(text): every small letter a-z moved {shift} places along the alphabet{more}, "
        "starting again at a after z; all else as it is."
    )

    def arguments(rng: random.Random) -> list[Any]:
        letters = "abcdefghijklmnopqrstuvwxyzzyxABYZ 9.-"
        return ["".join(rng.choice(letters) for _ in range(rng.randint(1, 12)))]

    return Draft(task, solution, wrong, arguments)


def words(rng: random.Random, difficulty: int) -> Draft:
    """Words by how often they occur."""
    shortest, best = rng.randint(2, 4), rng.randint(1, 2 + difficulty)
    kind = rng.choice(("most", "least"))
    letter = rng.choice("aeiost")
    sign = "-" if kind == "most" else ""
    solution = code(
        """
        def f(text):
            counts = {}
            for word in text.lower().split():
                if len(word) >= $shortest and "$letter" in word:
                    counts[word] = counts.get(word, 0) + 1
            ranked = sorted(counts, key=lambda word: (${sign}counts[word], word))
            return ranked[:$best]
        """,
        shortest=shortest, best=best, sign=sign, letter=letter,
    )  # fmt: skip
    wrong = edits(
        solution,
        (".lower()", ""),
        (f">= {shortest}", f"> {shortest}"),
        (f' and "{letter}" in word', ""),
        (f"({sign}counts[word], word)", "counts[word]"),
    )
    task = (
        f"Write f(text): the list of the {best} {kind} frequent words of text that have at least "
        f"{shortest} letters, one of them {letter!r}; in small letters, ties in alphabetical "
        "order. Words are parted by spaces."
    )

    def arguments(rng: random.Random) -> list[Any]:
        parts = [rng.choice(("a", letter)), letter, rng.choice("bcdn"), rng.choice("rlpo")]
        stock = ["".join(rng.sample(parts, rng.randint(2, 4))) for _ in range(6)] + ["bcdb", "nurp"]
        chosen = [rng.choice(stock) for _ in range(rng.randint(1, 12))]
        return [" ".join(w.upper() if rng.random() < 0.2 else w for w in chosen)]

    return Draft(task, solution, wrong, arguments)


def brackets(rng: random.Random, difficulty: int) -> Draft:
    """How deep brackets of two kinds nest, where they match."""
    pairs = rng.sample(("()", "[]", "{}", "<>"), 2)
    bonus, broken = rng.randint(1, 4 + difficulty), -rng.randint(1, 3)
    solution = code(
        """
        def f(text):
            opened, deepest = [], 0
            for c in text:
                if c in "$left":
                    opened.append(c)
                    depth = sum(1 if b == "$first" else $bonus for b in opened)
                    deepest = max(deepest, depth)
                elif c in "$right" and (
                    not opened or "$left".index(opened.pop()) != "$right".index(c)
                ):
                    return $broken
            return $broken if opened else deepest
        """,
        left=pairs[0][0] + pairs[1][0],
        right=pairs[0][1] + pairs[1][1],
        first=pairs[0][0],
        bonus=bonus,
        broken=broken,
    )
    wrong = edits(
        solution,
        (f"return {broken} if opened else deepest", "return deepest"),
        ("not opened or ", ""),
        ("max(deepest, depth)", "depth"),
        (".pop()", "[-1]"),
    )
    task = (
        f"Write f(text): how deep the brackets {pairs[0]} and {pairs[1]} in text nest, each level "
        f"of {pairs[0]} counting 1 and each of {pairs[1]} counting {bonus}; {broken} where they do "
        "not match."
    )
    return Draft(task, solution, wrong, lambda rng: [_nested(rng, pairs)])


def _nested(rng: random.Random, pairs: list[str]) -> str:
    """Brackets that match, with damage in half of the texts."""
    text = ""
    for _ in range(rng.randint(1, 5)):
        at = rng.randint(0, len(text))
        pair = rng.choice(pairs)
        text = text[:at] + pair[0] + rng.choice(("", "x")) + pair[1] + text[at:]
    if rng.random() < 0.5:
        return text
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(("", pairs[0][1], pairs[1][0])) + text[at + 1 :]
