"""The end of a run by an error that its controller could not handle, in one place for all errors and all moments.

Invariant, with a test: whatever ends the run, its instances are terminated unless the user chose to leave them, and the
error shows how many are left, their price and the commands that continue or stop them.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

import attrs
import structlog

from cloud_tasks.controller.launch.terminate import remaining_instances, terminate_instances
from cloud_tasks.errors import CloudTasksError, StoreError
from cloud_tasks.model import Instance, Money
from cloud_tasks.plugin import Compute
from cloud_tasks.quantities import counted
from cloud_tasks.shortage import describe_shortage
from cloud_tasks.store import InstanceRecord, Store, writer_of

__all__ = ["InstancesLeft", "end_instances", "instances_left", "with_instances"]

log = structlog.get_logger()

_TIMEOUT = timedelta(minutes=10)
_RESUME = "resume the job with `cloud-tasks run --continue`"


@attrs.frozen(kw_only=True)
class InstancesLeft:
    """Instances of a job that are not known to be terminated."""

    count: int
    price_per_hour: Money
    is_started: bool
    """Whether the job has been started, so that it can be resumed."""

    def __str__(self) -> str:
        """Return the end of an error line; empty for a job that has not been started."""
        if not self.count:
            return f"no instance is left running; {_RESUME}" if self.is_started else ""
        verb = "is" if self.count == 1 else "are"
        running = f"{counted(self.count, 'instance')} of the job {verb} still running at {self.price_per_hour}/hour"
        return f"{running}: {_RESUME}, or terminate with `cloud-tasks stop`"


def end_instances(compute: Compute, job_id: str) -> None:
    """Terminate all instances of a job without its controller; log why instances may be left."""
    try:
        terminate_instances(
            compute,
            lambda: remaining_instances(compute, job_id),
            timeout=_TIMEOUT,
            on_wait=lambda left: log.info(f"Waiting for {counted(len(left), 'instance')} to terminate"),
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
    records = _records(database, job_id)
    prices = {record.instance_id: record.price_per_hour for record in records}
    listed: tuple[Instance, ...] | None = None
    if compute is not None:
        with contextlib.suppress(Exception):
            listed = remaining_instances(compute, job_id)
    ids = [record.instance_id for record in records if record.ended_at is None]
    if listed is not None:
        ids = [instance.instance_id for instance in listed]
    price = sum((prices.get(instance_id, Money.zero()) for instance_id in ids), Money.zero())
    return InstancesLeft(count=len(ids), price_per_hour=price, is_started=is_started)


def _records(database: Path, job_id: str) -> list[InstanceRecord]:
    if not database.exists():
        return []
    try:
        with Store.open(database, job_id=job_id, read_only=True) as store:
            return list(store.instances())
    except StoreError:
        return []


def with_instances(error: BaseException, left: InstancesLeft) -> BaseException:
    """Return the error to raise: the same one where it has a message for the user, with what is left of the job."""
    text = str(left)
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
