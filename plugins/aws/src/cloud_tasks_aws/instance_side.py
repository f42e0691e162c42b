"""Worker side on an EC2 instance: identity and spot interruption notice from the metadata service.

Paths: "Instance metadata categories" of the EC2 user guide; token: "Use IMDSv2".

Invariant, with a test: a session token that the service rejects is replaced once, and the request repeated.
"""

from __future__ import annotations

import threading
import time

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import InstanceContext
from cloud_tasks.plugin.kit import MetadataError, MetadataService, PolledInstanceSide, json_object, notice_time
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["Ec2InstanceSide"]

_TOKEN_SECONDS = 21_600
"""Longest lifetime of a session token, in seconds."""
_RENEW_BEFORE = 300.0


class Ec2InstanceSide(PolledInstanceSide):
    """The `InstanceSide` of an EC2 instance. Thread-safe."""

    def __init__(self, settings: AwsSettings, context: InstanceContext | None = None) -> None:
        super().__init__()
        self._service = MetadataService(settings.metadata_url)
        self._heed_rebalance = settings.heed_rebalance
        self._token_lock = threading.Lock()
        self._token = ""
        self._token_ends = 0.0

    def _read_identity(self) -> InstanceIdentity:
        instance_id = self._text("instance-id")
        if not instance_id:
            raise ProviderError("the metadata service returned no instance id", transient=True)
        return InstanceIdentity(
            instance_id=instance_id,
            zone=self._text("placement/availability-zone") or "",
            instance_type=self._text("instance-type") or "",
        )

    def _read_notice(self) -> TerminationNotice | None:
        text = self._text("spot/instance-action")
        if text is not None:
            notice = json_object(text)
            action = str(notice.get("action", "terminate"))
            return TerminationNotice(at=notice_time(notice.get("time")), reason=f"spot interruption ({action})")
        # Most instances with a rebalance recommendation are not interrupted, so it is ignored unless enabled.
        if self._heed_rebalance and self._text("events/recommendations/rebalance") is not None:
            return TerminationNotice(at=None, reason="rebalance recommendation")
        return None

    def _text(self, path: str) -> str | None:
        """Return the metadata at this path, or None if the service has none."""
        try:
            return self._get(path)
        except MetadataError as error:
            if error.status != 401:
                raise
        with self._token_lock:
            self._token = ""
        return self._get(path)

    def _get(self, path: str) -> str | None:
        return self._service.get(
            f"/latest/meta-data/{path}", headers={"X-aws-ec2-metadata-token": self._current_token()}
        )

    def _current_token(self) -> str:
        with self._token_lock:
            if not self._token or time.monotonic() > self._token_ends - _RENEW_BEFORE:
                headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
                try:
                    self._token = self._service.request("/latest/api/token", method="PUT", headers=headers)
                except MetadataError as error:
                    raise ProviderError(
                        f"the metadata service refused a session token: {error.status}", transient=error.status >= 500
                    ) from error
                self._token_ends = time.monotonic() + _TOKEN_SECONDS
            return self._token
