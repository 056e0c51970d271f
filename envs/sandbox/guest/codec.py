"""Python values as canonical JSON and back: exact types only, nothing that could run code.

Plain JSON stands for itself (None, bool, str, int below 2**53, finite float, list); everything
else is an object with one key, its tag: `t` tuple, `s` set, `z` frozenset, `d` dict as pairs, `b`
bytes, `i` big int, `f` non-finite float, `c` complex. Both sides of the wall use this module; the
host trusts nothing that it decodes.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterable
from typing import Any

MAX_DEPTH = 64
_SAFE_INT = 2**53
_HEAP_TYPE = 1 << 9
"""The flag of types that Python code made (and some of the library's)."""
_STDLIB = sys.stdlib_module_names | {"builtins"}
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
"""Canonical JSON, in ASCII, of what `encode` gives; `parse` reads it."""


class CodecError(ValueError):
    """A value that cannot cross, or JSON that is none of ours."""

    def __init__(self, message: str, *, is_custom: bool = False) -> None:
        super().__init__(message)
        self.is_custom = is_custom
        """Whether the value has a type that the candidate itself made."""


def parse(data: bytes) -> Any:
    """Read JSON strictly: ASCII, no duplicate keys, no NaN, finite numbers, depth capped.

    Raises:
        CodecError: It is not that.
    """
    try:
        return json.loads(
            data.decode("ascii"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_short_int,
        )
    except CodecError:
        raise
    except RecursionError:
        raise CodecError("JSON nested too deep") from None
    except ValueError as error:
        raise CodecError(f"no JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CodecError("a key comes twice")
    return found


def _refuse_constant(text: str) -> float:
    raise CodecError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise CodecError(f"{text[:40]} is not finite")
    return number


def _short_int(text: str) -> int:
    if len(text) > 17:
        raise CodecError("an integer of too many digits")
    return int(text)


def encode(value: Any, depth: int = 0) -> Any:
    """A value as plain JSON with tags; see the module.

    Raises:
        CodecError: The value, or one inside it, is not exactly of a type that may cross, or too
            deep.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -_SAFE_INT < value < _SAFE_INT else {"i": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"f": str(value)}
    if kind is bytes:
        return {"b": base64.b64encode(value).decode("ascii")}
    if kind is complex:
        return {"c": [encode(value.real), encode(value.imag)]}
    if depth >= MAX_DEPTH:
        raise CodecError(f"nested deeper than {MAX_DEPTH}")
    if kind is list:
        return [encode(item, depth + 1) for item in value]
    if kind is tuple:
        return {"t": [encode(item, depth + 1) for item in value]}
    if kind is dict:
        pairs = value.items()
        return {"d": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in pairs]}
    if kind is set or kind is frozenset:
        items = sorted((encode(item, depth + 1) for item in value), key=dumps)
        return {"s" if kind is set else "z": items}
    is_custom = bool(kind.__flags__ & _HEAP_TYPE) and kind.__module__ not in _STDLIB
    raise CodecError(f"a value of type {kind.__qualname__}"[:200], is_custom=is_custom)


def decode(data: Any, depth: int = 0) -> Any:
    """The exact Python value of tagged JSON.

    Raises:
        CodecError: It is not of the form that `encode` gives.
    """
    if depth > MAX_DEPTH:
        raise CodecError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(data, list):
        return [decode(item, depth + 1) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) != 1:
        raise CodecError("an object that is no tagged value")
    ((tag, body),) = data.items()
    try:
        return _DECODERS[tag](body, depth + 1)
    except KeyError:
        raise CodecError("an unknown tag or number") from None
    except (TypeError, ValueError) as error:
        if isinstance(error, CodecError):
            raise
        raise CodecError(f"a malformed value: {error}"[:200]) from None


def _items(body: Any, depth: int) -> Iterable[Any]:
    if not isinstance(body, list):
        raise CodecError("a container without a list")
    return (decode(item, depth) for item in body)


def _distinct(body: Any, depth: int) -> frozenset[Any]:
    found = frozenset(_items(body, depth))
    if len(found) != len(body):
        raise CodecError("a set with an element twice")
    return found


def _dict(body: Any, depth: int) -> dict[Any, Any]:
    if not isinstance(body, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in body
    ):
        raise CodecError("a dict that is no list of pairs")
    found = {decode(key, depth): decode(value, depth) for key, value in body}
    if len(found) != len(body):
        raise CodecError("a dict with a key twice")
    return found


def _big_int(body: Any, depth: int) -> int:
    number = int(body, 16)
    if hex(number) != body or -_SAFE_INT < number < _SAFE_INT:
        raise CodecError("a big int that is none")
    return number


def _complex(body: Any, depth: int) -> complex:
    real, imag = (decode(part, depth) for part in body)
    if type(real) is not float or type(imag) is not float:
        raise CodecError("a complex number without two floats")
    return complex(real, imag)


_DECODERS: dict[str, Any] = {
    "t": lambda body, depth: tuple(_items(body, depth)),
    "s": lambda body, depth: set(_distinct(body, depth)),
    "z": _distinct,
    "d": _dict,
    "b": lambda body, depth: base64.b64decode(body, validate=True),
    "i": _big_int,
    "f": lambda body, depth: _SPECIAL[body],
    "c": _complex,
}
