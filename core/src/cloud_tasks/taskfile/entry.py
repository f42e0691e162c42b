"""Validation of a task: ``{"task_id" or "id": text, "data": {...}}`` without other keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from cloud_tasks.errors import InputError
from cloud_tasks.sanitize import MAX_DEPTH, UnusableValueError, check_value

__all__ = ["check_data", "fields_of_entry", "kind_of"]

_KEYS = frozenset({"task_id", "id", "data"})
_EXPECTED = 'a task is {"task_id": "some-name", "data": {...}}'

_KINDS: dict[type[Any], str] = {
    dict: "an object",
    list: "a list",
    tuple: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def kind_of(value: object) -> str:
    """Return the name of a value's JSON type, for errors."""
    return _KINDS.get(type(value), f"a value of type {type(value).__name__}")


def fields_of_entry(entry: object, number: int, where: Callable[[], str]) -> tuple[str, dict[str, Any]]:
    """Return the id and data of the task in one entry of a source.

    Args:
        number: Position in the source, from 1.
        where: Returns the location of the entry (``file:line``); called for errors only.

    Raises:
        InputError: Wrong type, missing or unknown key, or an id that is empty or not text.
    """
    if type(entry) is dict and len(entry) == 2 and "data" in entry:
        # Fast path for the usual form: this runs once per task.
        task_id = entry.get("task_id") or entry.get("id")
        data = entry["data"]
        if type(task_id) is str and task_id and type(data) is dict and task_id.isascii() and "\0" not in task_id:
            return task_id, data
    return _validated(entry, number, where)


def check_data(task_id: str, data: dict[str, Any], number: int, where: Callable[[], str], *, hint: str = "") -> None:
    """Refuse data that JSON would change or cannot hold; not needed for an entry that was decoded from strict JSON.

    Args:
        hint: Remedy for a value of a type that JSON does not have; empty for the usual one.

    Raises:
        InputError: A value of such a type (NumPy, dates, paths), a key that is not text, text that is not valid
            Unicode, an integer of too many digits, or too many levels.
    """
    try:
        # The entry, and the message in which the data is sent, are a level of their own.
        check_value(data, depth=MAX_DEPTH - 1)
    except UnusableValueError as error:
        reason = str(error)
        if "a value of the type" not in reason:
            hint = ""
        elif not hint:
            hint = "convert it to text, a number, a list or an object"
        separator = "" if reason.startswith((".", "[")) else ": "
        raise InputError(f'task {number} ("{task_id}"): data{separator}{reason}', where=where(), hint=hint) from None


def _validated(entry: Any, number: int, where: Callable[[], str]) -> tuple[str, dict[str, Any]]:
    """Return id and data of an entry that needs full validation, or raise `InputError`."""
    if not isinstance(entry, dict):
        _refuse(f"expected an object, found {kind_of(entry)}", number, where, hint=_EXPECTED)
    for key in entry:
        if key not in _KEYS:
            _refuse(f'unknown key "{key}"', number, where, hint='put parameters of the task into "data"')
    if "task_id" not in entry and "id" not in entry:
        _refuse('missing "task_id" (or "id")', number, where, hint=_EXPECTED)
    name = "task_id" if "task_id" in entry else "id"
    task_id = entry[name]
    if "task_id" in entry and "id" in entry and entry["task_id"] != entry["id"]:
        _refuse(
            f'"task_id" ({entry["task_id"]!r}) and "id" ({entry["id"]!r}) differ',
            number,
            where,
            hint="remove one of them",
        )
    if not isinstance(task_id, str):
        _refuse(f'"{name}" must be text, not {kind_of(task_id)} ({task_id!r})', number, where, hint="put it in quotes")
    if not task_id:
        _refuse(f'"{name}" is empty', number, where)
    if "\0" in task_id:
        _refuse(f'"{name}" contains the character U+0000 ({task_id!r})', number, where, hint="remove it")
    if any("\ud800" <= character <= "\udfff" for character in task_id):
        _refuse(f'"{name}" is not valid Unicode text ({task_id!r})', number, where)
    if "data" not in entry:
        _refuse(f'task "{task_id}" has no "data"', number, where, hint='write "data": {} for a task without data')
    if not isinstance(entry["data"], dict):
        _refuse(f'"data" of task "{task_id}" must be an object, not {kind_of(entry["data"])}', number, where)
    return task_id, entry["data"]


def _refuse(reason: str, number: int, where: Callable[[], str], *, hint: str = "") -> NoReturn:
    raise InputError(f"task {number}: {reason}", where=where(), hint=hint)
