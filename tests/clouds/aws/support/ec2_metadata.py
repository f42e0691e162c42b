"""Instance metadata service (IMDSv2 only) of the overlay's instances, under ``/imds/<instance id>``."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta

from ec2_instances import Fleet, OverlayInstance
from fake_server import Answer, FakeServer, Request

__all__ = ["Metadata"]

_MAX_TTL = 21_600


class Metadata:
    """Serves the metadata of a fleet's instances."""

    def __init__(self, fleet: Fleet, *, region: str) -> None:
        self._fleet = fleet
        self._region = region
        self._tokens: dict[tuple[str, str], float] = {}

    def register(self, server: FakeServer) -> None:
        server.route("PUT", r"/imds/(?P<id>[^/]+)/latest/api/token", self._token)
        server.route("GET", r"/imds/(?P<id>[^/]+)/latest/(?P<path>.*)", self._get)

    def forget_tokens(self) -> None:
        """Drop all session tokens, as after a restart of the service."""
        self._tokens.clear()

    def _token(self, request: Request) -> Answer:
        ttl = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= _MAX_TTL:
            return Answer(status=400, body="Bad Request")
        token = secrets.token_urlsafe(24)
        self._tokens[request.groups["id"], token] = time.monotonic() + int(ttl)
        return Answer(body=token, headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl})

    def _get(self, request: Request) -> Answer:
        instance = self._fleet.get(request.groups["id"])
        token = request.headers.get("x-aws-ec2-metadata-token", "")
        if self._tokens.get((request.groups["id"], token), 0.0) < time.monotonic():
            return Answer(status=401, body="Unauthorized")
        if instance is None:
            return Answer(status=404, body="Not Found")
        found = self._find(instance, request.groups["path"].rstrip("/"))
        return Answer(status=404, body="Not Found") if found is None else found

    def _find(self, instance: OverlayInstance, path: str) -> Answer | None:
        plain = {
            "meta-data/instance-id": instance.instance_id,
            "meta-data/instance-type": instance.instance_type,
            "meta-data/instance-life-cycle": "spot" if instance.spot else "on-demand",
            "meta-data/placement/availability-zone": instance.zone,
            "meta-data/placement/region": self._region,
        }
        if path in plain:
            return Answer(body=plain[path])
        if path == "user-data":
            return Answer(body=instance.user_data)
        if path == "meta-data/spot/instance-action" and instance.interruption_at is not None:
            return Answer(body={"action": "terminate", "time": _text(instance.interruption_at)})
        if path == "meta-data/spot/termination-time" and instance.interruption_at is not None:
            return Answer(body=_text(instance.interruption_at))
        if path == "meta-data/events/recommendations/rebalance" and instance.rebalance_at is not None:
            return Answer(body={"noticeTime": _text(instance.rebalance_at)})
        if path == "meta-data/iam/security-credentials" and instance.role:
            return Answer(body=instance.role)
        if path == f"meta-data/iam/security-credentials/{instance.role}" and instance.role:
            return Answer(body=_credentials())
        return None


def _credentials() -> dict[str, str]:
    """Return credentials of a role, valid for the fakes only."""
    now = datetime.now(UTC)
    return {
        "Code": "Success",
        "LastUpdated": _text(now),
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIAOVERLAYROLE00000",
        "SecretAccessKey": "overlay-role-key",
        "Token": "overlay-role-token",
        "Expiration": _text(now + timedelta(hours=6)),
    }


def _text(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
