"""The instance as seen by its worker: identity and termination notice from a metadata service or from files.

Invariants, each with a test:

1. An identity is cached once it was read; a failed request is repeated at the next call, never filled in.
2. A notice stays once it was received; a failed request is not a notice.
3. No request takes longer than its time limit, and none goes through a proxy.
4. With a pause, `termination_notice` never waits for the provider, and no answer stops the polling.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice

__all__ = ["MetadataError", "MetadataService", "PolledInstanceSide", "json_object", "notice_time", "read_json_file"]

_TIMEOUT = 2.0


class PolledInstanceSide(ABC):
    """An `InstanceSide` that reads identity and notice when they are asked for, or in a thread. Thread-safe.

    Args:
        pause: Seconds between two polls for a notice by a thread, which the first `termination_notice` starts. None:
            each call of `termination_notice` reads it itself.
    """

    def __init__(self, *, pause: float | None = None) -> None:
        self.__pause = pause
        self.__identity: InstanceIdentity | None = None
        self.__notice: TerminationNotice | None = None
        self.__closed = threading.Event()
        self.__lock = threading.Lock()
        self.__thread: threading.Thread | None = None

    @property
    def _closed(self) -> threading.Event:
        """Set by `close`."""
        return self.__closed

    @property
    def _lock(self) -> threading.Lock:
        """Lock of this object, not held during a read."""
        return self.__lock

    @abstractmethod
    def _read_identity(self) -> InstanceIdentity:
        """Read the identity. Raises `ProviderError` if it is not available now."""

    @abstractmethod
    def _read_notice(self) -> TerminationNotice | None:
        """Read the notice; None without one."""

    def identity(self) -> InstanceIdentity:
        """Implement `InstanceSide.identity`."""
        if self.__identity is None:
            self.__identity = self._read_identity()
        return self.__identity

    def termination_notice(self) -> TerminationNotice | None:
        """Implement `InstanceSide.termination_notice`."""
        if self.__pause is None:
            if self.__notice is None:
                self.__notice = self._read_notice()
        else:
            with self.__lock:
                if self.__thread is None and not self.__closed.is_set():
                    self.__thread = threading.Thread(target=self.__poll, name="instance-notice", daemon=True)
                    self.__thread.start()
        return self.__notice

    def close(self) -> None:
        """Stop the thread, without waiting for a running request."""
        self.__closed.set()

    def __poll(self) -> None:
        while not self.__closed.is_set():
            try:
                self.__notice = self._read_notice()
            except Exception:  # whatever the answer: without this thread, no notice would arrive
                self.__notice = None
            if self.__notice is not None:
                return
            self.__closed.wait(self.__pause)


class MetadataError(ProviderError):
    """The metadata service answered with an error.

    Args:
        status: HTTP status.
    """

    def __init__(self, message: str, *, status: int, transient: bool) -> None:
        super().__init__(message, transient=transient)
        self.status = status


class MetadataService:
    """Requests to the metadata service of an instance. Thread-safe.

    Args:
        url: Base of the paths.
        headers: Headers of every request.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None) -> None:
        self._base = url.rstrip("/")
        self._headers = dict(headers or {})
        # The service is link-local: a proxy of the environment does not apply.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, *, headers: Mapping[str, str] | None = None, timeout: float = _TIMEOUT) -> str | None:
        """Return the text at a path; None if there is none (404). Errors as for `request`."""
        try:
            return self.request(path, headers=headers, timeout=timeout)
        except MetadataError as error:
            if error.status == 404:
                return None
            raise

    def request(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = _TIMEOUT,
    ) -> str:
        """Make a request and return the text of the answer, without surrounding blanks.

        Args:
            timeout: Seconds.

        Raises:
            MetadataError: The service answered with an error; transient, except for status 403.
            ProviderError: The service cannot be reached; transient.
        """
        chosen = {**self._headers, **(headers or {})}
        try:
            request = urllib.request.Request(self._base + path, data=body, method=method, headers=chosen)
            with self._opener.open(request, timeout=timeout) as response:
                return str(response.read().decode("utf-8", "replace")).strip()
        except urllib.error.HTTPError as error:
            error.close()
            message = f"the metadata service answered {error.code} for {path.partition('?')[0]}"
            raise MetadataError(message, status=error.code, transient=error.code != 403) from error
        except (OSError, HTTPException, ValueError) as error:
            message = f"the metadata service at {self._base} cannot be reached: {error or type(error).__name__}"
            raise ProviderError(message, transient=True) from error


def read_json_file(path: Path) -> Mapping[str, Any] | None:
    """Return the JSON object in a file; None without the file. Raises `ProviderError` if it cannot be read."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ProviderError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ProviderError(f"cannot read {path}: not a JSON object")
    return content


def json_object(text: str | None) -> Mapping[str, Any]:
    """Return the JSON object of a text; an empty one for other texts."""
    try:
        content = json.loads(text or "")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def notice_time(text: object) -> datetime | None:
    """Return a time such as ``2025-09-18T08:22:00Z`` or ``Mon, 19 Sep 2016 18:29:47 GMT``; None for other texts.

    A time without a zone is taken as UTC.
    """
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
