"""The ``run`` section: settings of a job, with unit, default and check of each key.

The keys about instances and limits are those of `cloud_tasks.model.InstanceConstraints` and `cloud_tasks.model.Limits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from cloud_tasks.config.checks import (
    AcceptedFailuresLike,
    EachAbove,
    EachNotBlank,
    NameLike,
    NotBlank,
    OneOf,
    Patterns,
    SecretSources,
    Variables,
)
from cloud_tasks.model import Above, AtLeast, InstanceConstraints, Limits, constraint_info
from cloud_tasks.plugin import Seconds, setting
from cloud_tasks.retry_rule import RetryRule
from cloud_tasks.setting_values import CountOrShare, SecondsOrUnlimited

__all__ = ["RunSettings"]

_NAME = NameLike("^[a-z][-a-z0-9]{0,23}$", 'a lower-case letter, then at most 23 of a-z, 0-9 and "-"')
_QUEUE_NAME = NameLike("^[a-z][-a-z0-9]{0,62}$", 'a lower-case letter, then at most 62 of a-z, 0-9 and "-"')


@attrs.frozen(kw_only=True, slots=False)
class _JobSettings:
    """Names, program and image of a job."""

    job_id: str | None = setting(help="Name of the job", default=None, validator=_NAME)
    queue_name: str | None = setting(
        help="Start of the names of the queues, followed by run id and number (default: the job id); without a job "
        "database, the full name of a task queue",
        default=None,
        validator=_QUEUE_NAME,
    )
    exactly_once_queue: bool = setting(help="Request a queue with exactly-once delivery", default=False)
    db_file: str | None = setting(
        help="Path of the job's database (default: <job id>.db beside the configuration)", default=None
    )
    program: str | None = setting(
        help="Python program of the workers, a file or a module, with its options, instead of a startup script; its "
        "folder and its requirements are shipped to the instances",
        default=None,
        validator=NotBlank(),
    )
    requirements: tuple[str, ...] = setting(
        help="Requirements of the program: a file (requirements.txt, pyproject.toml, uv.lock) or a list (default: what "
        "is found beside the program)",
        default=(),
        validator=EachNotBlank(),
    )
    ship: tuple[str, ...] = setting(
        help="Files to ship: paths and patterns relative to the configuration's folder (default: all that git does not "
        "ignore; never secrets, databases, .git)",
        default=(),
        validator=EachNotBlank(),
    )
    setup: str | None = setting(
        help="Lines of shell that prepare an instance before the program starts, in the folder of the code",
        default=None,
        validator=NotBlank(),
    )
    staging: str | None = setting(
        help="URL of a prefix from which the instances download what is shipped, such as gs://bucket/prefix",
        default=None,
        validator=NotBlank(),
    )
    startup_script: str | None = setting(help="Script that each instance runs", default=None)
    startup_script_file: str | None = setting(
        help="File with the startup script, instead of startup_script; relative to the configuration file", default=None
    )
    command: str | None = setting(
        help="Shell command of one task, with {name} for fields of its data, instead of a Python worker",
        default=None,
        validator=NotBlank(),
    )
    shell: str | None = setting(
        help="Shell that runs the command: bash (-euo pipefail) or sh (default: bash if the instance has it)",
        default=None,
        validator=OneOf(("bash", "sh")),
    )
    environment: Mapping[str, str] = setting(
        help="Environment variables of startup script, worker and tasks, by name; not for secrets: others can read it",
        factory=dict,
        validator=Variables(),
    )
    secrets: Mapping[str, str] = setting(
        help="Secrets of the tasks by name, each with the place from which this machine reads it, env:VARIABLE or "
        "file:PATH; tasks read files in CLOUD_TASKS_SECRETS_DIR, or worker_data.secrets",
        factory=dict,
        validator=SecretSources(),
    )
    image: str | None = setting(help="Boot image (default: the newest Ubuntu LTS of the architecture)", default=None)


def _with_checks(cls: type[Any], fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Validate the fields of constraints by their declared checks."""
    declared = ((field, constraint_info(field)) for field in fields)
    return [field if info is None else field.evolve(validator=info.check) for field, info in declared]


@attrs.frozen(kw_only=True, field_transformer=_with_checks)
class RunSettings(Limits, InstanceConstraints, _JobSettings):
    """Keys of ``run``, which a provider's section accepts too. Sizes are in GB, amounts in US dollars."""

    # Instances
    instance_types: tuple[str, ...] = setting(
        help="Instance types: regular expressions, matched anywhere in the name (default: all types)",
        default=(),
        validator=Patterns(),
    )
    use_spot: bool = setting(help="Use spot instances", default=False)
    spot_fallback: bool = setting(help="Use on-demand instances when no spot capacity is available", default=False)
    prefer: str = setting(
        help="Criterion for ranking offers", default="price", validator=OneOf(("price", "speed", "availability"))
    )
    cpu_family_speed: Mapping[str, float] = setting(
        help="Relative speeds of CPU families, by name, where weight 1 is standard (default: all equal)",
        factory=dict,
        validator=EachAbove(0),
    )
    on_error: str = setting(
        help="Treatment of the instances after an error of the controller",
        default="terminate",
        validator=OneOf(("terminate", "leave")),
    )
    canary: bool = setting(help="Start other instances only after one has completed a task", default=False)

    # Controller
    scaling_check_interval: Seconds = setting(help="Interval between scaling checks", default=60.0, validator=Above(0))
    instance_termination_delay: Seconds = setting(
        help="Delay between the end of the last task and the termination of the instances",
        default=60.0,
        validator=AtLeast(0),
    )
    max_parallel_instance_creations: int = setting(
        help="Maximum number of instances being created at once", default=10, validator=AtLeast(1)
    )
    max_concurrent_queue_operations: int = setting(
        help="Maximum number of concurrent queue operations while loading tasks", default=100, validator=AtLeast(1)
    )
    keepalive_interval: Seconds = setting(
        help="Interval between heartbeats of a worker; 0: none", default=60.0, validator=AtLeast(0)
    )
    keepalive_startup_timeout: Seconds = setting(
        help="Time limit for the first heartbeat of an instance; 0: none", default=600.0, validator=AtLeast(0)
    )
    keepalive_timeout: Seconds = setting(
        help="Time without a heartbeat after which an instance is replaced; 0: never",
        default=300.0,
        validator=AtLeast(0),
    )

    checks: bool = setting(
        help="Check the provider's account at the start of a run, and refuse to start where it cannot work",
        default=True,
    )
    give_up_after: Seconds = setting(
        help="Time for which every launch is refused for causes that only a person can remove, with no instance left, "
        "after which the run ends; 0: never",
        default=900.0,
        validator=AtLeast(0),
    )

    # Workers
    max_runtime: Seconds = setting(help="Time limit for one attempt of a task", default=3600.0, validator=Above(0))
    max_memory_allowed_per_task: float | None = setting(
        help="Memory limit for one task in GB (default: none)", default=None, validator=Above(0)
    )
    retry_on_exit: bool = setting(help="Retry tasks whose process exited early", default=False)
    retry_on_exception: bool = setting(help="Retry tasks that raised an exception", default=False)
    retry_on_timeout: bool = setting(help="Retry tasks that exceeded max_runtime", default=False)
    retry: tuple[RetryRule, ...] = setting(
        help="Retry rules: a list of {on: exit|exception|timeout, codes, types, attempts}", default=()
    )
    max_attempts: int = setting(
        help="Maximum number of attempts of a task, including the first", default=3, validator=AtLeast(1)
    )
    max_losses: int = setting(
        help="Maximum number of interrupted attempts of a task before it fails", default=10, validator=AtLeast(0)
    )
    accept_failures: CountOrShare = setting(
        help="Number or share of failed tasks with which the job still counts as a success (exit code 0)",
        default=CountOrShare("0"),
        validator=AcceptedFailuresLike(),
    )
    shutdown_grace_period: Seconds = setting(
        help="Time for running tasks to finish when a worker stops", default=30.0, validator=AtLeast(0)
    )
    idle_limit: Seconds = setting(
        help="Time without a task after which an instance terminates itself; 0: never",
        default=900.0,
        validator=AtLeast(0),
    )
    max_lifetime: SecondsOrUnlimited = setting(
        help="Maximum lifetime of an instance, after which it terminates itself; unlimited: no limit",
        default=86_400.0,
        validator=Above(0, remedy="use unlimited for no limit"),
    )
    max_result_bytes: int | None = setting(
        help="Maximum size of a task's result in bytes (default: the queue's message limit)",
        default=None,
        validator=AtLeast(1),
    )
    start_method: str | None = setting(
        help="How task processes are created: fork, or spawn for a new interpreter (default: fork if it is safe)",
        default=None,
        validator=OneOf(("fork", "spawn")),
    )
    reuse_processes: int | None = setting(
        help="Number of tasks that one process runs in turn, for tasks of milliseconds (default: 1)",
        default=None,
        validator=AtLeast(1),
    )
    log_store: str | None = setting(help="Folder or URL for uploaded logs of attempts", default=None)
    event_spool_bytes: int | None = setting(
        help="Maximum size in bytes of unsent reports on a worker's disk (default: 256 MiB)",
        default=None,
        validator=AtLeast(0),
    )
    result_store: str | None = setting(help="Folder or URL for results that are too large for an event", default=None)
