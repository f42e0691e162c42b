"""Instances of the overlay, from pending to terminated, whose user data runs as a real process."""

from __future__ import annotations

import base64
import gzip
import random
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
from cloud_guests import Guest

__all__ = ["Fleet", "OverlayInstance", "Pace", "decoded_user_data"]

_SHIM = """#!/bin/sh
# Powers the instance off through the overlay. A minute of `shutdown +1` takes half a second.
for word in "$@"; do
  case "$word" in +*) sleep "$(echo "$word" | awk '{{ print $1 / 2 }}')" ;; esac
done
exec {python} -I -c 'import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="POST", data=b""), timeout=20).close()
' {url}
"""
_CONSOLE_CHARACTERS = 64 * 1024


@attrs.frozen(kw_only=True)
class Pace:
    """Durations in seconds."""

    boot: float = 0.2
    shutdown_grace: float = 0.3
    """Grace period until processes are killed after a termination."""
    spot_lifetime: float | None = None
    """Mean time until a spot instance is interrupted; None: never."""
    spot_notice: float = 2.0


class OverlayInstance:
    """State of one instance beyond what moto stores."""

    def __init__(
        self,
        *,
        instance_id: str,
        instance_type: str,
        zone: str,
        spot: bool,
        client_token: str,
        user_data: bytes,
        terminates: bool,
        needs_token: bool,
        role: str,
        root_gb: str = "",
        template: Path | None = None,
    ) -> None:
        self.instance_id = instance_id
        self.instance_type = instance_type
        self.zone = zone
        self.spot = spot
        self.client_token = client_token
        self.user_data = user_data
        self.terminates = terminates
        """Whether power-off terminates the instance instead of stopping it."""
        self.needs_token = needs_token
        self.role = role
        self.root_gb = root_gb
        """Size of its root volume."""
        self.template = template
        """Root folder of its image, if that was made of an instance."""
        self.state = "pending"
        self.interruption_at: datetime | None = None
        self.rebalance_at: datetime | None = None
        self.reason = ""
        self.guest: Guest | None = None
        self.console = ""

    def as_json(self) -> Mapping[str, Any]:
        return {
            "instance_id": self.instance_id,
            "type": self.instance_type,
            "zone": self.zone,
            "spot": self.spot,
            "state": self.state,
            "reason": self.reason,
            "role": self.role,
        }


class Fleet:
    """All instances of the overlay. Thread-safe.

    Args:
        folder: Parent of the instances' folders.
        base_url: URL of the overlay.
    """

    def __init__(self, folder: Path, *, base_url: str, pace: Pace, seed: int) -> None:
        self.folder = folder
        self.pace = pace
        self._base_url = base_url
        self._random = random.Random(seed)
        self._lock = threading.RLock()
        self._instances: dict[str, OverlayInstance] = {}
        self._closed = False
        self.interruptions = 0

    def add(self, instance: OverlayInstance) -> None:
        """Boot an instance."""
        with self._lock:
            self._instances[instance.instance_id] = instance
            lifetime = None
            if instance.spot and self.pace.spot_lifetime is not None:
                lifetime = self._random.expovariate(1.0 / self.pace.spot_lifetime)
        _later(self.pace.boot, lambda: self._boot(instance))
        if lifetime is not None:
            _later(self.pace.boot + lifetime, lambda: self.interrupt(instance.instance_id, self.pace.spot_notice))

    def get(self, instance_id: str) -> OverlayInstance | None:
        with self._lock:
            return self._instances.get(instance_id)

    def all(self) -> list[OverlayInstance]:
        with self._lock:
            return list(self._instances.values())

    def end(self, instance_id: str, *, reason: str, stop: bool = False) -> None:
        """Start ending an instance and return at once; a terminated one is unchanged."""
        with self._lock:
            instance = self._instances.get(instance_id)
            if instance is None or instance.state in ("shutting-down", "terminated"):
                return
            if stop and instance.state in ("stopping", "stopped"):
                return
            instance.state = "stopping" if stop else "shutting-down"
            instance.reason = reason
        threading.Thread(target=self._end, args=(instance, stop), daemon=True).start()

    def power_off(self, instance_id: str) -> None:
        """Power an instance off, on its own request."""
        instance = self.get(instance_id)
        # One that is stopped by a call does not end by its own power-off.
        if instance is not None and instance.state != "stopping":
            reason = "Client.InstanceInitiatedShutdown"
            self.end(instance_id, reason=reason, stop=not instance.terminates)

    def interrupt(self, instance_id: str, notice: float) -> None:
        """Announce a spot interruption, then terminate the instance."""
        instance = self.get(instance_id)
        if instance is None or instance.state not in ("pending", "running"):
            return
        instance.interruption_at = datetime.now(UTC) + timedelta(seconds=notice)
        self.interruptions += 1
        _later(notice, lambda: self.end(instance_id, reason="Server.SpotInstanceTermination"))

    def recommend_rebalance(self, instance_id: str) -> None:
        """Publish a rebalance recommendation."""
        instance = self.get(instance_id)
        if instance is not None:
            instance.rebalance_at = datetime.now(UTC)

    def console(self, instance: OverlayInstance) -> str:
        return (instance.guest.console() if instance.guest is not None else instance.console)[-_CONSOLE_CHARACTERS:]

    def close(self) -> None:
        """End all instances and wait for it."""
        with self._lock:
            self._closed = True
            machines = [each.guest for each in self._instances.values() if each.guest is not None]
        for guest in machines:
            guest.end()

    def _boot(self, instance: OverlayInstance) -> None:
        with self._lock:
            if self._closed or instance.state != "pending":
                return
            instance.state = "running"
            folder = self.folder / instance.instance_id
            script = instance.user_data
            with suppress(gzip.BadGzipFile):
                script = gzip.decompress(script)
            if not script.startswith(b"#!"):
                instance.console = "cloud-init: user data is not a script\n"
                return
            instance.guest = Guest(folder, script, environment=self._environment(instance), root=instance.template)

    def _environment(self, instance: OverlayInstance) -> Mapping[str, str]:
        shims = self.folder / f"{instance.instance_id}.bin"
        shims.mkdir(parents=True)
        url = f"{self._base_url}/_machine/{instance.instance_id}/power-off"
        for name in ("shutdown", "poweroff", "halt"):
            shim = shims / name
            shim.write_text(_SHIM.format(python=sys.executable, url=url))
            shim.chmod(0o755)
        return {
            "PATH": f"{shims}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self._base_url}/imds/{instance.instance_id}",
        }

    def _end(self, instance: OverlayInstance, stop: bool) -> None:
        guest = instance.guest
        if guest is not None:
            guest.end(grace=self.pace.shutdown_grace)
        with self._lock:
            # One that is stopped may be terminated meanwhile.
            if not stop or instance.state == "stopping":
                instance.state = "stopped" if stop else "terminated"


def decoded_user_data(text: str) -> bytes:
    """Decode user data."""
    return base64.b64decode(text) if text else b""


def _later(seconds: float, call: Any) -> None:
    def wait() -> None:
        time.sleep(seconds)
        call()

    threading.Thread(target=wait, daemon=True).start()
