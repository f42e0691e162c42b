"""The ``run`` section: what a job asks for, key by key, with unit, default and check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from cloud_tasks.config.checks import EachAbove, Matches, OneOf, Patterns
from cloud_tasks.model.bounds import Above, AtLeast
from cloud_tasks.model.constraints import InstanceConstraints, Limits, constraint_info
from cloud_tasks.plugin import setting
from cloud_tasks.retry_rule import RetryRule

__all__ = ["RunSettings"]

_NAME = Matches(
    "^[a-z][-a-z0-9]{0,23}$",
    "a lower-case letter, then at most 23 lower-case letters, digits or dashes",
)


@attrs.frozen(kw_only=True, slots=False)
class _JobSettings:
    """What runs."""

    job_id: str | None = setting(help="Name of the job", default=None, validator=_NAME)
    queue_name: str | None = setting(
        help="Name of the task queue; the event queue is <name>-events (default: the job id)",
        default=None,
        validator=_NAME,
    )
    exactly_once_queue: bool = setting(help="Whether to ask for a queue that delivers each message once", default=False)
    db_file: str | None = setting(help="Path of the job's database (default: <job id>.db)", default=None)
    startup_script: str | None = setting(help="Script that each instance runs", default=None)
    startup_script_file: str | None = setting(
        help="File with the startup script, instead of startup_script; relative to the configuration file", default=None
    )
    command: str | None = setting(
        help="Shell command that does one task, with fields of its data in braces, for tasks without Python",
        default=None,
    )
    image: str | None = setting(help="Boot image (default: the newest Ubuntu LTS of the architecture)", default=None)


def _with_checks(cls: type[Any], fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Validate what a person writes by the checks of the declared constraints."""
    declared = ((field, constraint_info(field)) for field in fields)
    return [field if info is None else field.evolve(validator=info.check) for field, info in declared]


@attrs.frozen(kw_only=True, field_transformer=_with_checks)
class RunSettings(Limits, InstanceConstraints, _JobSettings):
    """Every key that may stand in ``run``, and in the section of a provider. Quantities are GB, seconds, US dollars."""

    # Which machines
    instance_types: tuple[str, ...] = setting(
        help="Regular expressions, found anywhere in the type's name (default: all types)",
        default=(),
        validator=Patterns(),
    )
    use_spot: bool = setting(help="Whether to buy spot instances", default=False)
    spot_fallback: bool = setting(help="Whether to buy on demand where no spot instance is to be had", default=False)
    prefer: str = setting(
        help="What makes an offer better", default="price", validator=OneOf(("price", "speed", "availability"))
    )
    cpu_family_speed: Mapping[str, float] = setting(
        help="How fast the CPUs of a family are, by its name, compared with those of weight 1 (default: all alike)",
        factory=dict,
        validator=EachAbove(0),
    )
    canary: bool = setting(help="Whether one instance has to complete a task before others are started", default=False)

    # Pace of the controller
    scaling_check_interval: float = setting(
        help="Seconds between two looks at the fleet", default=60.0, validator=Above(0)
    )
    instance_termination_delay: float = setting(
        help="Seconds from the end of the last task to the end of the instances", default=60.0, validator=AtLeast(0)
    )
    max_parallel_instance_creations: int = setting(
        help="How many instances are started at a time", default=10, validator=AtLeast(1)
    )
    max_concurrent_queue_operations: int = setting(
        help="How many queue operations run at a time while loading", default=100, validator=AtLeast(1)
    )
    keepalive_interval: float = setting(
        help="Seconds between two signs of life of a worker; 0: none", default=60.0, validator=AtLeast(0)
    )
    keepalive_startup_timeout: float = setting(
        help="Seconds within which a new instance has to speak; 0: any time", default=600.0, validator=AtLeast(0)
    )
    keepalive_timeout: float = setting(
        help="Seconds of silence after which an instance is replaced; 0: never", default=300.0, validator=AtLeast(0)
    )

    # What a worker is told
    max_runtime: float = setting(help="Seconds that one attempt of a task may take", default=3600.0, validator=Above(0))
    max_memory_allowed_per_task: float | None = setting(
        help="Memory in GB above which a task is ended (default: no limit)", default=None, validator=Above(0)
    )
    retry_on_exit: bool = setting(help="Whether a task is tried again when its process ended early", default=False)
    retry_on_exception: bool = setting(help="Whether a task is tried again after an exception", default=False)
    retry_on_timeout: bool = setting(help="Whether a task is tried again after max_runtime", default=False)
    retry: tuple[RetryRule, ...] = setting(
        help="Rules for trying again: a list of {on: exit|exception|timeout, codes, types, attempts}", default=()
    )
    max_attempts: int = setting(help="Most attempts of a task, the first included", default=3, validator=AtLeast(1))
    max_losses: int = setting(
        help="How often a task may be lost with its instance before it is given up", default=10, validator=AtLeast(0)
    )
    shutdown_grace_period: float = setting(
        help="Seconds that running tasks have to end when a worker stops", default=30.0, validator=AtLeast(0)
    )
    idle_limit: float | None = setting(
        help="Seconds without a task after which an instance ends itself; 0: never", default=900.0, validator=AtLeast(0)
    )
    max_lifetime: float | None = setting(
        help="Seconds after which an instance ends itself whatever it does (default: never)",
        default=None,
        validator=AtLeast(0),
    )
    max_result_bytes: int | None = setting(
        help="Largest result of a task in bytes (default: what the queue carries)", default=None, validator=AtLeast(1)
    )
    start_method: str | None = setting(
        help="fork: task processes are copies of the program; spawn: they are fresh interpreters "
        "(default: fork where that is safe)",
        default=None,
        validator=OneOf(("fork", "spawn")),
    )
    reuse_processes: int | None = setting(
        help="How many tasks one process does, one after the other, for tasks of milliseconds (default: 1)",
        default=None,
        validator=AtLeast(1),
    )
    log_store: str | None = setting(help="Folder or URL to which what each attempt printed is uploaded", default=None)
    event_spool_bytes: int | None = setting(
        help="Bytes of reports that a worker keeps on disk while the event queue is out (default: 256 MiB)",
        default=None,
        validator=AtLeast(0),
    )
    result_store: str | None = setting(help="Folder or URL for results that are too large for an event", default=None)
