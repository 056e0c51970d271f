"""Procedural families of coding tasks: words, a solution, edits that break it, arguments."""

from __future__ import annotations

from ..problem import Family
from .dynamic import coins, edit, knapsack, paths, rising
from .lines import choose, expression, letters, pick
from .lists import merge, runs, windows
from .numbers import clock, digits, primes, recurrence
from .programs import ledger, ranking
from .repairs import repair
from .texts import brackets, cipher, words
from .worlds import islands, maze, robot

LEVELS: dict[int, dict[str, Family]] = {
    1: {"expression": expression, "letters": letters, "choose": choose, "pick": pick},
    2: {
        "brackets": brackets,
        "cipher": cipher,
        "clock": clock,
        "digits": digits,
        "ledger": ledger,
        "merge": merge,
        "primes": primes,
        "ranking": ranking,
        "recurrence": recurrence,
        "repair": repair,
        "runs": runs,
        "windows": windows,
        "words": words,
    },
    3: {
        "coins": coins,
        "edit": edit,
        "islands": islands,
        "knapsack": knapsack,
        "maze": maze,
        "paths": paths,
        "rising": rising,
        "robot": robot,
    },
}
"""Families by the difficulty from which on they are drawn where none is named."""

FAMILIES: dict[str, Family] = {
    name: family for families in LEVELS.values() for name, family in families.items()
}
