"""Are two values the same? Exactly: `True` is not 1, 1 is not 1.0, `[1]` is not `(1,)`.

What a candidate returned has crossed as data, so both sides are of Python's own types; anything
else is never the same as what was expected. Nothing here calls a method that a value could bring.
"""

from __future__ import annotations

import math
from typing import Any

MAX_DEPTH = 100
"""Of lists in lists; what is deeper is no answer to any task."""
MAX_NODES = 200_000

_SCALARS = (type(None), bool, int, str, bytes, complex)
_CONTAINERS = (list, tuple, dict, set, frozenset)


def is_same(given: Any, wanted: Any, tolerance: float = 0.0) -> bool:
    """Is `given` the value that was wanted?

    Args:
        given: What came out of the box.
        wanted: What the task expects.
        tolerance: How far a number may be from a wanted float, absolutely or relatively, whichever
            is larger; 0 means exactly. Then NaN is NaN, and -0.0 is not 0.0.
    """
    return _Comparison(tolerance).are_same(given, wanted, MAX_DEPTH)


class _Comparison:
    """One comparison: how much of it is left."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._nodes = MAX_NODES

    def are_same(self, given: Any, wanted: Any, depth: int) -> bool:
        self._nodes -= 1
        if self._nodes < 0 or depth < 0:
            return False
        if type(wanted) is float:
            return self._is_number(given, wanted)
        if type(given) is not type(wanted):
            return False
        if type(wanted) in _SCALARS:
            return bool(given == wanted)
        if type(wanted) not in _CONTAINERS or len(given) != len(wanted):
            return False
        if type(wanted) in (list, tuple):
            pairs = zip(given, wanted, strict=True)
            return all(self.are_same(a, b, depth - 1) for a, b in pairs)
        if type(wanted) is dict:
            return self._is_dict(given, wanted, depth)
        return {_key(a) for a in given} == {_key(b) for b in wanted}

    def _is_number(self, given: Any, wanted: float) -> bool:
        """A float is wanted; where the task declares a tolerance, an integer will do."""
        if self._tolerance and type(given) in (int, float) and math.isfinite(wanted):
            try:
                return math.isclose(given, wanted, rel_tol=self._tolerance, abs_tol=self._tolerance)
            except OverflowError:  # an integer beyond every float
                return False
        return type(given) is float and _key(given) == _key(wanted)

    def _is_dict(self, given: dict[Any, Any], wanted: dict[Any, Any], depth: int) -> bool:
        """The order of the entries is free; their keys are compared exactly."""
        found = {_key(name): value for name, value in given.items()}
        return all(
            _key(name) in found and self.are_same(found[_key(name)], value, depth - 1)
            for name, value in wanted.items()
        )


def _key(value: Any) -> tuple[type, Any]:
    """What a hashable value is told apart by: its type, and all of its digits."""
    if type(value) is float:
        return float, value.hex() if math.isfinite(value) else str(value)
    if type(value) is tuple:
        return tuple, tuple(map(_key, value))
    if type(value) is frozenset:
        return frozenset, frozenset(map(_key, value))
    return type(value), value
