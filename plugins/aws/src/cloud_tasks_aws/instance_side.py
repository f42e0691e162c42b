"""What a worker asks the EC2 instance it runs on: its metadata service, by the standard library alone.

Paths: "Instance metadata categories" of the EC2 user guide; the token: "Use IMDSv2".

Invariants, each with a test:

1. Only an answer of the service is an identity; what could not be had is asked for again, never made up.
2. A token that the service no longer knows is replaced once, and the question asked again.
3. Nothing waits longer than the time-out, whatever the service does.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["Ec2InstanceSide"]

_TIMEOUT = 2.0
_TOKEN_SECONDS = 21_600
"""The longest that a token can live."""
_RENEW_BEFORE = 300.0


class Ec2InstanceSide:
    """The `InstanceSide` of an EC2 instance. Thread-safe."""

    def __init__(self, settings: AwsSettings) -> None:
        self._base = settings.metadata_url.rstrip("/")
        self._heed_rebalance = settings.heed_rebalance
        # The service is on the instance itself: a proxy of the environment is not for it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._lock = threading.Lock()
        self._token = ""
        self._token_ends = 0.0

    def identity(self) -> InstanceIdentity:
        instance_id = self._text("instance-id")
        if not instance_id:
            raise ProviderError("the metadata service does not know its own instance", transient=True)
        return InstanceIdentity(
            instance_id=instance_id,
            zone=self._text("placement/availability-zone") or "",
            instance_type=self._text("instance-type") or "",
        )

    def termination_notice(self) -> TerminationNotice | None:
        text = self._text("spot/instance-action")
        if text is not None:
            notice = _object(text)
            action = str(notice.get("action", "terminate"))
            return TerminationNotice(at=_time(notice.get("time")), reason=f"spot interruption ({action})")
        # Most instances with a rebalance recommendation live on, so it counts only for those who ask.
        if self._heed_rebalance and self._text("events/recommendations/rebalance") is not None:
            return TerminationNotice(at=None, reason="rebalance recommendation")
        return None

    def _text(self, path: str) -> str | None:
        """The answer to a question about this instance; None where there is none (404)."""
        for last_try in (False, True):
            headers = {"X-aws-ec2-metadata-token": self._current_token()}
            try:
                return self._call("GET", f"/latest/meta-data/{path}", headers)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    return None
                if error.code != 401 or last_try:
                    raise ProviderError(
                        f"the metadata service answered {error.code} for {path}", transient=error.code != 403
                    ) from error
                with self._lock:
                    self._token = ""
        raise AssertionError("the second try returns or raises")

    def _current_token(self) -> str:
        with self._lock:
            if not self._token or time.monotonic() > self._token_ends - _RENEW_BEFORE:
                headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
                try:
                    self._token = self._call("PUT", "/latest/api/token", headers)
                except urllib.error.HTTPError as error:
                    error.close()
                    raise ProviderError(
                        f"the metadata service gives no token: {error.code}", transient=error.code >= 500
                    ) from error
                self._token_ends = time.monotonic() + _TOKEN_SECONDS
            return self._token

    def _call(self, method: str, path: str, headers: Mapping[str, str]) -> str:
        request = urllib.request.Request(self._base + path, method=method, headers=dict(headers))
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as response:
                return str(response.read().decode("utf-8", "replace")).strip()
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise ProviderError(
                f"the metadata service at {self._base} cannot be reached: {error}", transient=True
            ) from error


def _object(text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _time(text: object) -> datetime | None:
    """A time of the service, e.g. ``2025-09-18T08:22:00Z``; None where it cannot be read."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
