"""Messages of the event queue: batches of events, of which one that is malformed affects no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from cloud_tasks.convert.event import MAX_AHEAD, event_from_json, event_to_json
from cloud_tasks.convert.message_text import MalformedMessageError, decode_text, text_of
from cloud_tasks.model import Event
from cloud_tasks.sanitize import UnusableValueError

__all__ = ["decode_events", "encode_events"]

_MAX_SPLIT = 1 << 25
"""Characters of the longest message that is split into its entries if it cannot be decoded as a whole."""
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)


def encode_events(events: Iterable[Event]) -> bytes:
    """Return a batch of events as one message of the event queue."""
    return json.dumps([event_to_json(event) for event in events], separators=(",", ":")).encode()


def decode_events(
    body: bytes, *, received: datetime | None = None, run_id: str | None = None
) -> tuple[Sequence[Event], Sequence[str]]:
    """Return the events of a message, and a reason for each entry that cannot be used.

    Args:
        received: Time of receipt, UTC, which replaces an implausible time of an event; None for now.
        run_id: The run whose events are expected: an event that names another one cannot be used. None for any run.

    Raises:
        MalformedMessageError: The message is not JSON, or neither an object nor a list.
    """
    try:
        text, is_plain = text_of(body)
        entries, broken = _entries(text)
    except UnusableValueError as error:
        raise MalformedMessageError(str(error)) from None
    now = received or datetime.now(UTC)
    latest = now + MAX_AHEAD
    events: list[Event] = []
    for entry in entries:
        try:
            if type(entry) is not dict:
                raise UnusableValueError("an entry that is not an object")
            if entry.pop("run_id", run_id) != run_id and run_id is not None:
                raise UnusableValueError("an event of another run")
            events.append(event_from_json(entry, now, latest, is_plain=is_plain))
        except UnusableValueError as error:
            broken.append(str(error))
    return events, broken


def _entries(text: str) -> tuple[list[Any], list[str]]:
    """Return the entries of a message, and a reason for each one that cannot be decoded."""
    try:
        content = decode_text(text)
    except UnusableValueError:
        pieces = _split(text)
        if pieces is None:
            raise
        return _decode_each(pieces)
    if type(content) is dict:
        return [content], []
    if type(content) is not list:
        raise UnusableValueError("neither an event nor a list of events")
    return content, []


def _decode_each(pieces: Iterable[str]) -> tuple[list[Any], list[str]]:
    entries: list[Any] = []
    broken: list[str] = []
    for piece in pieces:
        try:
            entries.append(decode_text(piece))
        except UnusableValueError as error:
            broken.append(str(error))
    return entries, broken


def _split(text: str) -> list[str] | None:
    """Return the texts of the entries of a JSON list; None if it is no list or its brackets are not balanced."""
    text = text.strip(" \t\r\n")
    if len(text) > _MAX_SPLIT or not text.startswith("[") or not text.endswith("]"):
        return None
    pieces, depth, start = [], 0, 1
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
            if depth <= 0 and token.end() != len(text):
                return None
        if (mark == "," and depth == 1) or depth == 0:
            pieces.append(text[start : token.start()])
            start = token.end()
    return pieces if depth == 0 and len(pieces) > 1 else None
