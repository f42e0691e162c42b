"""The end of a run by an error that its controller could not handle, in one place for all errors and all moments.

Invariant, with a test: whatever ends the run, its instances are terminated unless the user chose to leave them, and the
error shows how many are left, their price and the commands that continue or stop them. Where the database was replaced,
the job is continued with the copy of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import attrs
import structlog

from cloud_tasks.controller.launch.terminate import note_zones, own_instances, terminate_instances
from cloud_tasks.errors import CloudTasksError, InputError, StoreError, StoreGoneError
from cloud_tasks.model import Instance, Money
from cloud_tasks.plugin import Compute
from cloud_tasks.quantities import counted
from cloud_tasks.shortage import describe_shortage
from cloud_tasks.store import InstanceRecord, Store, writer_of

__all__ = [
    "InstancesLeft",
    "NextCommands",
    "end_instances",
    "instances_left",
    "read_known_runs",
    "read_launches",
    "with_instances",
]

log = structlog.get_logger()

_TIMEOUT = timedelta(minutes=10)


def _resume_generally(database: Path | None) -> str:
    return "cloud-tasks run --continue" if database is None else f"cloud-tasks run --continue --db-file {database}"


@attrs.frozen(kw_only=True)
class NextCommands:
    """The commands that continue or stop the job, as the user types them."""

    resume: Callable[[Path | None], str] = _resume_generally
    """Return the command that continues the job, with another database if one is given."""
    stop: str = "cloud-tasks stop"


@attrs.frozen(kw_only=True)
class InstancesLeft:
    """Instances of a job that are not known to be terminated."""

    count: int
    price_per_hour: Money
    is_started: bool
    """Whether the job has been started, so that it can be resumed."""

    def describe(self, error: BaseException, commands: NextCommands) -> str:
        """Return the end of the line of an error; empty for a job that has not been started."""
        database = error.copy if isinstance(error, StoreGoneError) else None
        resume = f"resume the job with `{commands.resume(database)}`"
        if isinstance(error, InputError):
            # The same command would fail again.
            resume = "correct this and resume the job with --continue"
        if not self.count:
            return f"no instance is left running; {resume}" if self.is_started else ""
        verb = "is" if self.count == 1 else "are"
        running = f"{counted(self.count, 'instance')} of the job {verb} still running at {self.price_per_hour}/hour"
        return f"{running}: {resume}, or terminate with `{commands.stop}`"


def end_instances(compute: Compute, job_id: str, database: Path) -> None:
    """Terminate all instances of a job without its controller; log why instances may be left."""
    known_runs = read_known_runs(database)
    try:
        terminate_instances(
            compute,
            lambda: own_instances(compute, job_id, known_runs),
            timeout=_TIMEOUT,
            recorded=note_zones(compute, read_launches(database, job_id)),
            on_wait=log.info,
            wait_for_credentials=True,
        )
    except Exception as error:
        log.error(f"The instances could not be terminated: {error}")


def instances_left(database: Path, job_id: str, *, compute: Compute | None, is_started: bool) -> InstancesLeft:
    """Return what is left of a job, by its provider's listing, or by its database while that fails.

    Args:
        compute: None where it was not opened.
    """
    if not is_started and writer_of(database) is not None:
        # Another controller is at work, whose instances they are.
        return InstancesLeft(count=0, price_per_hour=Money.zero(), is_started=False)
    records = read_launches(database, job_id)
    prices = {record.instance_id: record.price_per_hour for record in records}
    listed: tuple[Instance, ...] | None = None
    if compute is not None:
        with contextlib.suppress(Exception):
            listed = own_instances(compute, job_id, read_known_runs(database))
    ids = [record.instance_id for record in records if record.ended_at is None]
    if listed is not None:
        ids = [instance.instance_id for instance in listed]
    price = sum((prices.get(instance_id, Money.zero()) for instance_id in ids), Money.zero())
    return InstancesLeft(count=len(ids), price_per_hour=price, is_started=is_started)


def read_known_runs(database: Path) -> frozenset[str]:
    """Return the run of this database, and those that it replaced; empty if it cannot be read."""
    if not database.exists():
        return frozenset()
    try:
        with Store.open(database, read_only=True) as store:
            return store.known_runs()
    except StoreError:
        return frozenset()


def read_launches(database: Path, job_id: str) -> list[InstanceRecord]:
    """Return the launches in the database of a job; none if it cannot be read."""
    if not database.exists():
        return []
    try:
        with Store.open(database, job_id=job_id, read_only=True) as store:
            return list(store.instances())
    except StoreError:
        return []


def with_instances(error: BaseException, left: InstancesLeft, commands: NextCommands) -> BaseException:
    """Return the error to raise: the same one where it has a message for the user, with what is left of the job."""
    text = left.describe(error, commands)
    if shortage := describe_shortage(error):
        return CloudTasksError(shortage, hint=text)
    if not text:
        return error
    if isinstance(error, CloudTasksError):
        error.hint = f"{error.hint}; {text}" if error.hint else text
        return error
    if not isinstance(error, Exception):
        # An interrupt has no message.
        log.warning(text[0].upper() + text[1:])
        return error
    problem = f"internal error: {type(error).__name__}: {error}"
    return CloudTasksError(problem, hint=f"please report it, with --debug for the traceback; {text}")
