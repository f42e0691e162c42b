"""Worker side on an EC2 instance: identity and spot interruption notice from the metadata service.

Uses the standard library only. Paths: "Instance metadata categories" of the EC2 user guide; token: "Use IMDSv2".

Invariants, each with a test:

1. An identity comes from the metadata service only; a failed request is repeated at the next call, never filled in.
2. A session token that the service rejects is replaced once, and the request repeated.
3. No request takes longer than the timeout.
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
from cloud_tasks.plugin import InstanceContext
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["Ec2InstanceSide", "open_instance"]

_TIMEOUT = 2.0
_TOKEN_SECONDS = 21_600
"""Longest lifetime of a session token, in seconds."""
_RENEW_BEFORE = 300.0


class Ec2InstanceSide:
    """The `InstanceSide` of an EC2 instance. Thread-safe."""

    def __init__(self, settings: AwsSettings) -> None:
        self._base = settings.metadata_url.rstrip("/")
        self._heed_rebalance = settings.heed_rebalance
        # The metadata service is link-local: a proxy of the environment does not apply.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._lock = threading.Lock()
        self._token = ""
        self._token_ends = 0.0

    def identity(self) -> InstanceIdentity:
        instance_id = self._text("instance-id")
        if not instance_id:
            raise ProviderError("the metadata service returned no instance id", transient=True)
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
        # Most instances with a rebalance recommendation are not interrupted, so it is ignored unless enabled.
        if self._heed_rebalance and self._text("events/recommendations/rebalance") is not None:
            return TerminationNotice(at=None, reason="rebalance recommendation")
        return None

    def _text(self, path: str) -> str | None:
        """Return the metadata at this path, or None if the service has none (404)."""
        for last_attempt in (False, True):
            headers = {"X-aws-ec2-metadata-token": self._current_token()}
            try:
                return self._call("GET", f"/latest/meta-data/{path}", headers)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    return None
                if error.code != 401 or last_attempt:
                    raise ProviderError(
                        f"the metadata service answered {error.code} for {path}", transient=error.code != 403
                    ) from error
                with self._lock:
                    self._token = ""
        raise AssertionError("the second attempt returns or raises")

    def _current_token(self) -> str:
        with self._lock:
            if not self._token or time.monotonic() > self._token_ends - _RENEW_BEFORE:
                headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
                try:
                    self._token = self._call("PUT", "/latest/api/token", headers)
                except urllib.error.HTTPError as error:
                    error.close()
                    raise ProviderError(
                        f"the metadata service refused a session token: {error.code}", transient=error.code >= 500
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


def open_instance(settings: AwsSettings, context: InstanceContext) -> Ec2InstanceSide:
    """Implement `ComputeBackend.open_instance`."""
    return Ec2InstanceSide(settings)


def _object(text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _time(text: object) -> datetime | None:
    """Return a time of the service, e.g. ``2025-09-18T08:22:00Z``, or None if it is invalid."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
