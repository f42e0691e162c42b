"""Strict JSON for task files: what a decoder would drop or change is refused with its place.

A key given twice, a number beyond the range of a double, an integer of too many digits, text with lone surrogates, and
a value nested too deeply. The C decoder of the standard library does the work: cheap necessary conditions decide
whether an entry is examined, and a tokenizer in Python runs only to find the place of a problem.

Invariants, each with a test:

1. An entry that passes is decoded without loss: no key, digit or character of it is missing or different.
2. A problem is reported with the line of the token that is at fault.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from cloud_tasks import sanitize

__all__ = ["Problem", "Scan", "check_entry", "fast_scan", "locate_problem", "may_repeat_keys", "strict_scan"]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]")
_TOO_LONG = f"an integer of more than {sanitize.MAX_DIGITS:,} digits"
_TOO_DEEP = f"nested deeper than {sanitize.MAX_DEPTH} levels"
_TOO_LARGE = "a number beyond the range of a double"


class Problem(ValueError):  # noqa: N818 - names what was found
    """A problem of an entry.

    Args:
        reason: One line; begins with the path of the value in the entry.
        position: Position of the token in the text.
    """

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError(_TOO_LARGE)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    raise ValueError("a key is given twice")


Scan = Callable[[str, int], tuple[Any, int]]
"""Decodes the value at a position; returns it and its end."""

fast_scan: Scan = json.JSONDecoder(parse_float=_finite).raw_decode
strict_scan: Scan = json.JSONDecoder(parse_float=_finite, object_pairs_hook=_without_duplicates).raw_decode
"""As `fast_scan`, which takes half as long for small tasks, but raises `ValueError` for a key that is given twice."""


def may_repeat_keys(entry: Any, text: str, start: int, end: int) -> bool:
    """Return whether an entry of `fast_scan` needs `strict_scan`; False is certain.

    Each written key has a colon: with no more colons than keys, no key was given twice.
    """
    data = entry.get("data") if type(entry) is dict else None
    return type(data) is not dict or text.count(":", start, end) != len(entry) + len(data)


def check_entry(entry: Any, text: str, start: int, end: int) -> Problem | None:
    """Return the first problem of an entry of `strict_scan`, or of `fast_scan` without repeated keys."""
    if not _is_suspect(text, start, end):
        return None
    try:
        sanitize.check_value(entry)
    except sanitize.UnusableValueError as error:
        return locate_problem(text, start) or Problem(str(error).lstrip("."), start)
    return None


def _is_suspect(text: str, start: int, end: int) -> bool:
    """Return whether an entry may have a lone surrogate, too many levels or too many digits; False is certain."""
    at = text.find("\\u", start, end)
    if at >= 0 and (text.find("\\ud", at, end) >= 0 or text.find("\\uD", at, end) >= 0):
        return True
    if end - start <= sanitize.MAX_DEPTH:
        return False
    if text.count("[", start, end) + text.count("{", start, end) > sanitize.MAX_DEPTH:
        return True
    # More digits than allowed include one at a multiple of their number.
    return any(map(str.isdigit, text[start : end : sanitize.MAX_DIGITS])) and end - start > sanitize.MAX_DIGITS


def locate_problem(text: str, start: int) -> Problem | None:
    """Return the first problem of the entry at ``start``, token by token, as far as the text is JSON."""
    containers: list[dict[str, int] | int] = []
    """Keys with their positions of each open object; number of values before this one of each open list."""
    keys: list[str] = []
    is_key = False
    for match in _TOKEN.finditer(text, start):
        token, position = match[0], match.start()
        if token in "{[":
            containers.append({} if token == "{" else 0)
            keys.append("")
            if len(containers) > sanitize.MAX_DEPTH:
                return Problem(_TOO_DEEP, position)
            is_key = token == "{"
        elif token in "}]":
            if not containers:
                return None
            containers.pop()
            keys.pop()
        elif token == ",":
            if containers and isinstance(counted := containers[-1], int):
                containers[-1] = counted + 1
            is_key = bool(containers) and isinstance(containers[-1], dict)
        elif token == ":":
            is_key = False
        else:
            reason = _token_problem(token)
            if is_key and containers and isinstance(names := containers[-1], dict) and token[0] == '"':
                keys[-1] = name = _text(token)
                if name in names:
                    reason = f'"{name}" is given twice in one object'
                names[name] = position
            if reason:
                return Problem(_path(keys[: -1 if is_key else None], containers, reason), position)
        if not containers:
            return None
    return None


def _token_problem(token: str) -> str:
    if token[0] == '"':
        text = _text(token)
        return "" if sanitize.clean_text(text) == text else f"text that is not valid Unicode ({token[:60]})"
    if not _NUMBER.match(token):
        return ""
    if token.lstrip("-").isdigit():
        return _TOO_LONG if len(token.lstrip("-")) > sanitize.MAX_DIGITS else ""
    try:
        return "" if math.isfinite(float(token)) else f"{_TOO_LARGE} ({token[:40]})"
    except ValueError:
        return ""


def _text(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token


def _path(keys: list[str], containers: list[dict[str, int] | int], reason: str) -> str:
    """Return the reason behind the path of the value: ``data.parts[3].size: …``."""
    parts = [f"[{at}]" if isinstance(at, int) else f".{key}" for key, at in zip(keys, containers, strict=False)]
    place = sanitize.clean_text("".join(parts).lstrip("."), 120)
    return f"{place}: {reason}" if place else reason
