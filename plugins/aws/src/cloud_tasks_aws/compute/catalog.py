"""Instance types of a region and the zones that offer them, from two paged calls, cached for a day.

Invariant, with a test: a failed page fails the whole call: a partial listing is never used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.model import InstanceType
from cloud_tasks.plugin.kit import PriceCache, PriceFiles
from cloud_tasks_aws.compute.compute_errors import translate_errors
from cloud_tasks_aws.compute.instance_types import instance_type, needed_part

__all__ = ["Catalog"]

_NAME = "aws-types"
"""Start of the name of a cache file: another one for another content."""
_MAX_AGE = timedelta(days=1)
"""EC2 adds instance types a few times a year."""


@attrs.frozen(kw_only=True)
class _Listing:
    fetched_at: datetime
    content: Mapping[str, Any]
    """What is cached: ``types`` as EC2 describes them, and ``zones`` by type."""
    types: tuple[InstanceType, ...]


class Catalog:
    """The instance types of one region. Thread-safe.

    Args:
        identity: Account and endpoint that the answer depends on besides the region.
    """

    def __init__(self, ec2: Any, *, region: str, identity: str, cache_dir: Path | None) -> None:
        self._ec2 = ec2
        self._region = region
        files = PriceFiles(
            cache_dir,
            name=_NAME,
            source=identity,
            encode=lambda listing: listing.content,
            decode=lambda _, fetched_at, content: _listing(fetched_at, content),
        )
        self._cache = PriceCache(
            "Instance types", files=files, fetch=lambda place, _: {place: self._fetch()}, max_age=_MAX_AGE
        )

    def instance_types(self) -> tuple[InstanceType, ...]:
        """Return the instance types that a job can use, sorted by name."""
        found = self._cache.get(self._region)
        return () if found is None else found.types

    def _fetch(self) -> _Listing:
        with translate_errors("listing instance types"), ThreadPoolExecutor(1) as thread:
            zones = thread.submit(self._offerings)
            pages = self._ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 100})
            types = [needed_part(each) for page in pages for each in page["InstanceTypes"]]
            return _listing(datetime.now(UTC), {"types": types, "zones": zones.result()})

    def _offerings(self) -> Mapping[str, Sequence[str]]:
        zones: dict[str, list[str]] = {}
        pages = self._ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", PaginationConfig={"PageSize": 1000}
        )
        for page in pages:
            for each in page["InstanceTypeOfferings"]:
                zones.setdefault(each["InstanceType"], []).append(each["Location"])
        return zones


def _listing(fetched_at: datetime, content: Mapping[str, Any]) -> _Listing:
    zones = content["zones"]
    types = (instance_type(each, zones.get(each["InstanceType"], ())) for each in content["types"])
    usable = sorted((each for each in types if each is not None), key=lambda each: each.name)
    return _Listing(fetched_at=fetched_at, content=content, types=tuple(usable))
