"""Where a webhook's messages go. The address is a secret: who has it can post in its owner's name.

Invariant, with a test: no message of an error, and no log line, holds any part of it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from cloud_tasks.builtin.sink_settings import WebhookSettings
from cloud_tasks.errors import InputError

__all__ = ["check_address", "find_address"]

_VARIABLE = "CLOUD_TASKS_WEBHOOK_URL"


def check_address(text: str) -> None:
    """Raises `ValueError`, which does not quote it, where a text is no address that can be posted to."""
    if any(letter.isspace() or not letter.isprintable() or not letter.isascii() for letter in text):
        raise ValueError("holds characters that no address has")
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ValueError("is no address that begins with https:// (or http://)")


def find_address(settings: WebhookSettings) -> str:
    """The address that the settings hold, or that is in the file that they name.

    Raises:
        InputError: There is none; others may read the file; it holds something else.
    """
    if settings.url is not None:
        return settings.url
    if settings.url_file is None:
        raise InputError(
            "webhook.url: is required", hint=f"set {_VARIABLE}, or put it in a file of yours and set webhook.url_file"
        )
    address = _read(settings.url_file)
    try:
        check_address(address)
    except ValueError as error:
        raise InputError(f"what is in it {error}", where=str(settings.url_file)) from None
    return address


def _read(path: Path) -> str:
    where = str(path)
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise InputError("is no file", where=where, hint="set webhook.url_file")
            if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or facts.st_uid not in (os.geteuid(), 0):
                raise InputError("may be read by others than you", where=where, hint=f"chmod 600 {path}")
            return file.read(8192).decode("utf-8", "replace").strip()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=where, hint="set webhook.url_file") from error
