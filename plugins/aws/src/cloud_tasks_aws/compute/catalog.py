"""Instance types of a region and the zones that offer them, from two paged calls, cached on disk for a day.

Invariants, each with a test:

1. A failed page fails the whole call: a partial listing is never used.
2. A cache file that is unreadable or of other settings is ignored; a failure to write one is not an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloud_tasks.model import InstanceType
from cloud_tasks_aws.compute.compute_errors import translate_errors
from cloud_tasks_aws.compute.instance_types import instance_type, needed_part

__all__ = ["Catalog"]

_FORMAT = 2
_MAX_AGE = 24 * 3600.0
"""Seconds; EC2 adds instance types a few times a year."""


class Catalog:
    """The instance types of one region. Thread-safe.

    Args:
        identity: Account and endpoint that the answer depends on besides the region. Only its hash is stored.
    """

    def __init__(self, ec2: Any, *, region: str, identity: str, cache_dir: Path | None) -> None:
        self._ec2 = ec2
        self._lock = threading.Lock()
        self._types: tuple[InstanceType, ...] | None = None
        digest = hashlib.sha256(f"{_FORMAT}/{identity}".encode()).hexdigest()[:16]
        self._file = None if cache_dir is None else cache_dir / f"aws-instance-types-{region}-{digest}.json"

    def instance_types(self) -> tuple[InstanceType, ...]:
        """Return the instance types that a job can use, sorted by name."""
        with self._lock:
            if self._types is None:
                content = self._read()
                if content is None:
                    content = self._fetch()
                    self._write(content)
                self._types = _types(content)
            return self._types

    def _fetch(self) -> Mapping[str, Any]:
        with translate_errors("listing instance types"), ThreadPoolExecutor(1) as thread:
            zones = thread.submit(self._offerings)
            pages = self._ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 100})
            found = [needed_part(each) for page in pages for each in page["InstanceTypes"]]
            return {"types": found, "zones": zones.result()}

    def _offerings(self) -> Mapping[str, Sequence[str]]:
        zones: dict[str, list[str]] = {}
        pages = self._ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", PaginationConfig={"PageSize": 1000}
        )
        for page in pages:
            for each in page["InstanceTypeOfferings"]:
                zones.setdefault(each["InstanceType"], []).append(each["Location"])
        return zones

    def _read(self) -> Mapping[str, Any] | None:
        if self._file is None:
            return None
        try:
            age = time.time() - self._file.stat().st_mtime
            content = json.loads(self._file.read_text(encoding="utf-8")) if 0 <= age < _MAX_AGE else None
            _types(content or {"types": [], "zones": {}})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return content if isinstance(content, dict) else None

    def _write(self, content: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        temporary = self._file.with_name(f".{self._file.name}.{os.urandom(4).hex()}")
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
            os.replace(temporary, self._file)


def _types(content: Mapping[str, Any]) -> tuple[InstanceType, ...]:
    zones = content["zones"]
    types = (instance_type(each, zones.get(each["InstanceType"], ())) for each in content["types"])
    return tuple(sorted((each for each in types if each is not None), key=lambda each: each.name))
