"""URL of the notifications, a secret: anyone with it can post in its owner's name.

Invariant, with a test: no error message and no log line contains any part of it.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cloud_tasks.errors import InputError

if TYPE_CHECKING:
    import apprise

__all__ = ["THREAD_NAME", "check_address", "is_webhook", "load_service", "read_address"]

THREAD_NAME = "notify"
"""Name of the delivery thread."""
_APPRISE_URL = re.compile(r"[a-z][a-z0-9+.-]*://.", re.IGNORECASE)
_VARIABLE = "CLOUD_TASKS_WEBHOOK_URL"


def is_webhook(address: str) -> bool:
    """Return whether the URL is a webhook that accepts JSON; all others are Apprise URLs."""
    return urlsplit(address).scheme in ("http", "https")


def check_address(text: str) -> None:
    """Raise `ValueError`, which does not quote the text, if it is neither a webhook nor has the form of an Apprise URL.

    The service itself is checked when the event sink is opened, since that takes seconds, and this function is called
    by every command that reads a configuration.
    """
    if any(letter.isspace() or not letter.isprintable() or not letter.isascii() for letter in text):
        raise ValueError("invalid characters in the URL")
    try:
        parts = urlsplit(text)
        is_valid = bool(parts.hostname) and parts.port != 0 if is_webhook(text) else bool(_APPRISE_URL.match(text))
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("expected a URL that starts with https://, or an Apprise URL such as slack://…")


def load_service(text: str) -> apprise.Apprise | None:
    """Return the service of an Apprise URL; None if the URL is not valid."""
    # Debug logs of these libraries contain URLs. Failures are read from the result instead.
    logging.getLogger("apprise").propagate = False
    logging.getLogger("urllib3.connectionpool").addFilter(_outside_delivery)
    # Imported here because it takes seconds, and a plain webhook does not need it.
    import apprise

    asset = apprise.AppriseAsset(
        app_id="cloud-tasks",
        http_redirects=False,
        # Without a time limit and asynchronous sending, the calling thread sends: no other thread delays the exit.
        async_mode=False,
        service_timeout=0,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )
    service = apprise.Apprise(asset=asset)
    return service if service.add(text) else None


def _outside_delivery(record: logging.LogRecord) -> bool:
    return record.threadName != THREAD_NAME


def read_address(url: str | None, url_file: Path | None) -> str:
    """Return the configured URL, or the content of the configured file.

    Raises:
        InputError: Neither is set, other users can read the file, or its content is not a valid URL.
    """
    if url is not None:
        return url
    if url_file is None:
        hint = f"set {_VARIABLE}, or write it to a private file and set webhook.url_file"
        raise InputError("webhook.url: required", hint=hint)
    address = _read(url_file)
    try:
        check_address(address)
    except ValueError as error:
        raise InputError(f"invalid content: {error}", where=str(url_file)) from None
    return address


def _read(path: Path) -> str:
    where = str(path)
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError("not a regular file", where=where, hint="set webhook.url_file to a file")
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or status.st_uid not in (os.geteuid(), 0):
                raise InputError("secret in a file that other users can read", where=where, hint=f"chmod 600 {path}")
            return file.read(8192).decode("utf-8", "replace").strip()
    except OSError as error:
        raise InputError(
            f"cannot read the file: {error.strerror}", where=where, hint="check webhook.url_file"
        ) from error
