"""The place of a job: what decides where its queues and instances are, recorded with the job.

In another place its instances are not listed, which is no proof that they are gone. Limits, prices and retry rules may
change when a job is resumed; the place may not.

Invariants, each with a test:

1. A job is resumed and stopped only in its recorded place; a difference is refused with both values.
2. What is not recorded, or not known now, is not compared; no secret is recorded.
3. Two names of one folder are one place, whatever the current folder was when it was recorded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import structlog

from cloud_tasks.config import JobConfig
from cloud_tasks.errors import PlaceError, ProviderError, StoreError
from cloud_tasks.escape import without_credentials
from cloud_tasks.plugin import LocationContext, setting_info
from cloud_tasks.store import JobRecord, Store

__all__ = ["check_place", "check_recorded_place", "has_queues_elsewhere", "place_of"]

log = structlog.get_logger()

_KINDS = ("queue", "compute")


def place_of(config: JobConfig, *, ask: bool = True, kinds: Sequence[str] = _KINDS) -> dict[str, str]:
    """Return the place of a configuration: values as text, by key.

    Args:
        ask: Whether to ask the providers where they are; otherwise only the configuration is read.
        kinds: ``queue`` or ``compute`` alone, without the names of queues; by default the whole place.
    """
    place: dict[str, str] = {}
    if config.run.job_id and kinds is _KINDS:
        place["queue_name"] = config.run.queue_name or config.run.job_id
    for kind in kinds:
        name = config.backends.get(kind)
        if name is None:
            continue
        place[kind] = name
        settings = config.settings_for(kind, name)
        for field in attrs.fields(type(settings)):
            if setting_info(field).locates:
                place[f"{name}.{field.name}"] = _text(getattr(settings, field.name))
        if ask:
            place |= {f"{kind} {key}": _text(value) for key, value in _located(config, kind, settings).items()}
    return place


def _located(config: JobConfig, kind: str, settings: Any) -> Mapping[str, str]:
    """Return what a backend says about its place; nothing if it cannot be found out now."""
    locate = getattr(config.registry, kind)(config.backends[kind]).locate
    if locate is None:
        return {}
    try:
        found: Mapping[str, str] = locate(settings, LocationContext(region=config.run.region, zone=config.run.zone))
    except ProviderError as error:
        log.debug(f"Place of the {kind} unknown: {error}")
        return {}
    return found


def _text(value: object) -> str:
    if isinstance(value, Path):
        value = os.path.realpath(value.expanduser())
    return "" if value is None else without_credentials(str(value))


def check_recorded_place(db_file: Path, config: JobConfig, *, ask: bool = True) -> JobRecord | None:
    """Refuse a configuration in which the job of a database would be in another place.

    Args:
        ask: As for `place_of`.

    Returns:
        The job; None if the database cannot be read, or has another job.

    Raises:
        PlaceError: A value differs from the recorded one; the message has both.
    """
    try:
        with Store.open(db_file, job_id=config.run.job_id, read_only=True) as store:
            record = store.job
    except StoreError:
        return None
    check_place(record, place_of(config, ask=ask), where=str(db_file))
    return record


def check_place(record: JobRecord, now: Mapping[str, str], *, where: str) -> None:
    """Refuse a place that differs from that of a job.

    Args:
        where: Name of the job's database in the message.

    Raises:
        PlaceError: A value differs from the recorded one; the message has both.
    """
    # A job of an older database has no place but its backends.
    known = {"queue": record.queue, "compute": record.compute, "queue_name": record.queue_name, **record.place}
    for key, value in known.items():
        if key == "queue_name" and now.get(key) == record.queue_name:
            # The full name, as it is shown, in place of its base.
            continue
        if key in now and not _is_same(now[key], value) and (value or key in record.place):
            raise PlaceError(
                f"{key}: the job was started with {_shown(value)}, and now has {_shown(now[key])}; its queues and "
                "instances would not be found there",
                where=where,
                hint="use the recorded value, or another job id for a new job",
            )


def has_queues_elsewhere(record: JobRecord, now: Mapping[str, str]) -> bool:
    """Return whether the queues of a job are in another place than this one."""
    known = {"queue": record.queue, **record.place}
    relevant = [key for key in known if key == "queue" or key.startswith((f"{record.queue}.", "queue "))]
    return any(
        key in now and not _is_same(now[key], known[key]) for key in relevant if known[key] or key in record.place
    )


def _is_same(one: str, other: str) -> bool:
    """Return whether two values are equal, or name one folder: earlier versions recorded paths as they were written."""
    are_paths = os.sep in one and os.sep in other and "://" not in one + other
    return one == other or (are_paths and os.path.realpath(one) == os.path.realpath(other))


def _shown(value: str) -> str:
    return f'"{value}"' if value else "the default"
