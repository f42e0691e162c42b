"""State common to all fake clouds with instances: durations, refusals, termination of guests."""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

import attrs
from cloud_guests import Guest
from cloud_timeline import Timeline

__all__ = ["CloudState", "Hosted", "Span", "most_at_once"]

TimesT = TypeVar("TimesT", bound=attrs.AttrsInstance)
StockOutT = TypeVar("StockOutT")
MetadataT = TypeVar("MetadataT", bound="_Closing")


class _Closing(Protocol):
    def close(self) -> None: ...


class Hosted(Protocol[MetadataT]):
    """An instance as seen by the cloud."""

    guest: Guest | None
    """Running guest; None without one."""
    metadata: MetadataT | None
    """Metadata service of the instance."""


class Span(Protocol):
    """Period between two Unix times."""

    @property
    def began(self) -> float: ...

    @property
    def ended(self) -> float | None: ...


class CloudState(ABC, Generic[TimesT, StockOutT]):
    """Base of the fakes' state, changed under ``lock`` by calls and by the timeline.

    Args:
        name: Prefix of the thread names.
        guest_environment: Variables of every instance, in addition to its metadata service's address.
    """

    def __init__(self, name: str, *, times: TimesT, guest_environment: Mapping[str, str] | None) -> None:
        self.times = times
        self.stock_outs: list[StockOutT] = []
        self.guest_environment = dict(guest_environment or {})
        self.undeletable: set[str] = set()
        """Names of resources whose deletion fails."""
        self.timeline = Timeline()
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._enders = ThreadPoolExecutor(32, thread_name_prefix=f"{name}-end")

    @abstractmethod
    def quotas_of(self, place: str) -> dict[str, int] | dict[str, float]:
        """Return the mutable quota limits of a location."""

    @abstractmethod
    def _hosted(self) -> Iterable[Hosted[Any]]:
        """Return all instances."""

    def close(self) -> None:
        """Terminate all instances."""
        self.timeline.close()
        with self.lock:
            found = list(self._hosted())
        for machine in found:
            self._stop_guest(machine, 0.0)
        self._enders.shutdown(wait=True)

    def _stop_guest(self, machine: Hosted[MetadataT], grace: float) -> None:
        """Stop all processes of an instance, after ``grace`` seconds with SIGKILL."""
        guest, metadata = machine.guest, machine.metadata
        if guest is not None:
            guest.end(grace=grace)
        if metadata is not None:
            metadata.close()
        with self.lock:
            machine.guest = machine.metadata = None


def most_at_once(spans: Iterable[Span]) -> int:
    """Return the maximum number of concurrent periods."""
    marks = [mark for span in spans for mark in ((span.began, 1), *(() if span.ended is None else ((span.ended, -1),)))]
    return max(itertools.accumulate(change for _, change in sorted(marks)), default=0)
