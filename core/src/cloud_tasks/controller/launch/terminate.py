"""Termination of instances outside of a run, until a complete listing shows none.

Invariants, each with a test:

1. Instances count as terminated only when a complete listing no longer shows them. A failed listing proves nothing.
2. An instance that is known by its record is terminated without a listing.
3. No error but refused credentials ends the attempts before their time is over. Neither an error nor a call without an
   answer keeps other instances running: a call that fails is divided until each instance has a call of its own.
4. What is left is named at the end: by the listing, else by the records, else as unknown.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

from cloud_tasks.controller.launch.labels import belongs_to_other_run
from cloud_tasks.errors import CredentialsError, InputError, ProviderError
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.plugin import Compute, LocatedCompute
from cloud_tasks.quantities import counted, format_span
from cloud_tasks.store import InstanceRecord

__all__ = ["divide", "note_zones", "own_instances", "remaining_instances", "terminate_instances"]

_MIN_BACKOFF = timedelta(seconds=1)
_MAX_BACKOFF = timedelta(seconds=15)
_CALL_TIMEOUT = timedelta(minutes=3)
"""Time after which a call is given up. Some providers answer when an instance is gone."""

_T = TypeVar("_T")


def remaining_instances(compute: Compute, job_id: str | None) -> tuple[Instance, ...]:
    """Return the instances of a job (None: of all jobs) that are not terminated or have resources left."""
    return tuple(i for i in compute.instances(job_id) if i.state is not InstanceState.TERMINATED)


def own_instances(compute: Compute, job_id: str, known_runs: Collection[str]) -> tuple[Instance, ...]:
    """Return the remaining instances of a job without those that another controller launched."""
    return tuple(i for i in remaining_instances(compute, job_id) if not belongs_to_other_run(i, known_runs))


def note_zones(compute: Compute, records: Iterable[InstanceRecord]) -> tuple[str, ...]:
    """Return the instances that are not recorded as ended, after giving their zones to a backend that needs them.

    Zones of launches without an answer are given, too: their instances may exist.
    """
    open_ones = [record for record in records if record.ended_at is None]
    if isinstance(compute, LocatedCompute):
        compute.note_zones({record.instance_id or record.client_token: record.zone for record in open_ones})
    return tuple(record.instance_id for record in open_ones if record.instance_id is not None)


def divide(instance_ids: Sequence[str], failures: int) -> list[Sequence[str]]:
    """Return the instances in as many calls as are due after this number of failed rounds: 1, 4, 16 and so on."""
    size = max(1, -(-len(instance_ids) // 4 ** min(failures, 10)))
    return [instance_ids[first : first + size] for first in range(0, len(instance_ids), size)]


def terminate_instances(
    compute: Compute,
    find: Callable[[], Collection[Instance]],
    *,
    timeout: timedelta,
    recorded: Collection[str] = (),
    on_wait: Callable[[str], None] = lambda text: None,
    wait_for_credentials: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Instance, ...]:
    """Terminate the instances that ``find`` lists until it lists none; return all instances that it listed.

    Args:
        find: Return a complete listing, or raise.
        timeout: Maximum time until no instance is listed.
        recorded: Ids of instances that are terminated whether or not they are listed.
        on_wait: Called after each round with what is waited for, in one line.
        wait_for_credentials: Whether to wait for credentials that a person has to renew, too.

    Raises:
        InputError: The configuration does not allow the calls.
        ProviderError: Instances may be left after ``timeout``, or the credentials were refused.
    """
    termination = _Termination(compute, find, recorded)
    deadline = clock() + timeout.total_seconds()
    backoff = _MIN_BACKOFF.total_seconds()
    while not termination.run_round():
        if clock() >= deadline or (termination.is_refused and not wait_for_credentials):
            raise termination.error()
        on_wait(termination.describe())
        sleep(backoff)
        backoff = min(backoff * 1.5, _MAX_BACKOFF.total_seconds())
    return tuple(termination.found.values())


class _Termination:
    def __init__(self, compute: Compute, find: Callable[[], Collection[Instance]], recorded: Collection[str]) -> None:
        self._compute = compute
        self._find = find
        self._recorded = tuple(dict.fromkeys(recorded))
        self._unrequested = self._recorded
        """Recorded instances without a successful termination call."""
        self._failures = 0
        """Rounds with a failed termination call."""
        self._left: tuple[Instance, ...] | None = None
        """The last listing; None if it failed."""
        self._problem: Exception | None = None
        self.found: dict[str, Instance] = {}

    def run_round(self) -> bool:
        """Terminate what is known, by record or listing; return whether a listing shows no instance any more."""
        self._problem = None
        failed = self._terminate(self._unrequested)
        self._unrequested = failed
        if self._is_gone():
            return True
        listed = tuple(instance.instance_id for instance in self._left or ())
        failed += self._terminate(listed)
        self._failures += bool(failed)
        return bool(listed) and self._is_gone()

    def _terminate(self, instance_ids: Sequence[str]) -> tuple[str, ...]:
        """Return the instances whose call failed."""
        failed: list[str] = []
        for piece in divide(instance_ids, self._failures):
            try:
                _answer(lambda piece=piece: self._compute.terminate(piece))  # type: ignore[misc]
            except InputError:
                raise
            except Exception as error:
                failed += piece
                self._problem = error
        return tuple(failed)

    def _is_gone(self) -> bool:
        try:
            self._left = tuple(_answer(self._find))
        except InputError:
            raise
        except Exception as error:
            self._left, self._problem = None, error
            return False
        self.found.update((instance.instance_id, instance) for instance in self._left)
        return not self._left

    @property
    def is_refused(self) -> bool:
        """Whether the provider refused the credentials in the last round."""
        return isinstance(self._problem, CredentialsError)

    def describe(self) -> str:
        """Return what is waited for: never "0 instances" for an unknown number."""
        if self._left is not None:
            reason = "" if self._problem is None else f": {self._problem}"
            return f"Waiting for {counted(len(self._left), 'instance')} to terminate{reason}"
        count = len(self._recorded)
        known = f" ({counted(count, 'recorded instance')} requested to terminate)" if count else ""
        return f"Waiting for a listing; the number of instances left is unknown{known}: {self._problem}"

    def error(self) -> ProviderError:
        """Return the error at the end of the time, with the instances that may be left."""
        names = [i.instance_id for i in self._left] if self._left is not None else list(self._recorded)
        reason = f": {self._problem}" if self._problem is not None else ""
        error = ProviderError(
            f"instances may still exist ({', '.join(names) or 'unknown'}){reason}",
            hint="run the command again, and check the provider's console",
        )
        error.__cause__ = self._problem
        return error


def _answer(call: Callable[[], _T]) -> _T:
    """Return or raise what a call does; raise `ProviderError` if that takes too long. The call then continues."""
    outcome: queue.SimpleQueue[tuple[_T, None] | tuple[None, BaseException]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((call(), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=run, name="terminate", daemon=True).start()
    try:
        result, error = outcome.get(timeout=_CALL_TIMEOUT.total_seconds())
    except queue.Empty:
        raise ProviderError(f"no answer within {format_span(_CALL_TIMEOUT)}", transient=True) from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # the result of a call that raised nothing
