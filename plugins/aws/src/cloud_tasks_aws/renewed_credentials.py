"""Credentials of a boto3 client that are read again when AWS refuses them: after `aws sso login`, or in a new file.

Invariants, each with a test:

1. A call is repeated only with credentials other than the refused ones.
2. Credentials that cannot be refreshed raise a botocore exception, never another one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from cloud_tasks.errors import CloudTasksError
from cloud_tasks_aws.errors import are_credentials_refused

__all__ = ["RenewedCredentials"]

_PAUSE = 5.0
"""Seconds between two attempts to read credentials, each of which may run a program."""
_LONGEST_CALL = 60.0
"""Seconds."""


class RenewedCredentials:
    """Credentials in the interface of botocore. Thread-safe.

    Args:
        current: botocore's credentials; None if there are none.
        read: Yield the present ones of environment, files and programs, in the order of preference.
    """

    def __init__(self, current: Any, read: Callable[[], Iterator[Any]]) -> None:
        self._current = current
        self._read = read
        self._lock = threading.Lock()
        self._read_at = self._renewed_at = float("-inf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current, name)

    def get_frozen_credentials(self) -> Any:
        """Return the keys to sign a request with; None if there are none."""
        before = self._current
        if before is None:
            self._renew(None)
            return _frozen(self._current)
        try:
            return _frozen(before)
        except (BotoCoreError, ClientError):
            if self._renew(before):
                return _frozen(self._current)
            raise

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """Return a function that reads a property of the present credentials, of which there may be none yet."""
        return lambda: getattr(self.get_frozen_credentials(), name, None)

    def retry(self, response: Any = None, attempts: int = 1, **_: Any) -> float | None:
        """Return 0 for a response that refuses the credentials, to repeat the call with new ones, else None.

        A handler of botocore's event ``needs-retry``.
        """
        if response is None or not are_credentials_refused(ClientError(response[1], "")):
            return None
        if attempts == 1 and time.monotonic() - self._renewed_at < _LONGEST_CALL:
            # Another call has renewed them since this one was signed.
            return 0
        return 0 if self._renew(self._current) else None

    def _renew(self, refused: Any) -> bool:
        """Read the credentials again; return whether there are others than the refused ones."""
        with self._lock:
            if self._current is not refused:
                return True
            if time.monotonic() - self._read_at < _PAUSE:
                return False
            self._read_at = time.monotonic()
            try:
                for found in self._read():
                    if found is not None and _key(found) not in (None, _key(refused)):
                        self._current, self._renewed_at = found, time.monotonic()
                        return True
            except (BotoCoreError, ClientError, CloudTasksError):
                return False
            return False


def _frozen(credentials: Any) -> Any:
    if credentials is None:
        return None
    try:
        return credentials.get_frozen_credentials()
    except RuntimeError as error:
        # botocore's error for refreshed credentials that are expired, too.
        raise CredentialRetrievalError(provider=str(credentials.method), error_msg=str(error)) from error


def _key(credentials: Any) -> tuple[str, str] | None:
    """Return what distinguishes two sets of credentials; None if they cannot be read."""
    try:
        frozen = _frozen(credentials)
    except (BotoCoreError, ClientError):
        return None
    return None if frozen is None else (frozen.access_key, str(frozen.token))
