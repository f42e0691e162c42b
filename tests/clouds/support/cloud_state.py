"""What the state of a stand-in with machines has, whatever its API: times, refusals, and how guests end."""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

import attrs
from cloud_machines import Machine
from cloud_timeline import Timeline

__all__ = ["CloudState", "Hosted", "Span", "most_at_once"]

TimesT = TypeVar("TimesT", bound=attrs.AttrsInstance)
StockOutT = TypeVar("StockOutT")
MetadataT = TypeVar("MetadataT", bound="_Closing")


class _Closing(Protocol):
    def close(self) -> None: ...


class Hosted(Protocol[MetadataT]):
    """A machine as the cloud sees it."""

    guest: Machine | None
    """What runs in it; None: nothing."""
    metadata: MetadataT | None
    """Its metadata service."""


class Span(Protocol):
    """Something that lasts; Unix times."""

    @property
    def began(self) -> float: ...

    @property
    def ended(self) -> float | None: ...


class CloudState(ABC, Generic[TimesT, StockOutT]):
    """Changed under ``lock``, by calls and by what is due on the timeline.

    Args:
        name: Of its threads.
        guest_environment: Variables of every machine, besides its metadata service's address.
    """

    def __init__(self, name: str, *, times: TimesT, guest_environment: Mapping[str, str] | None) -> None:
        self.times = times
        self.stock_outs: list[StockOutT] = []
        self.guest_environment = dict(guest_environment or {})
        self.undeletable: set[str] = set()
        """Names of what fails to be deleted."""
        self.timeline = Timeline()
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._enders = ThreadPoolExecutor(32, thread_name_prefix=f"{name}-end")

    @abstractmethod
    def quotas_of(self, place: str) -> dict[str, int] | dict[str, float]:
        """The limits that hold there, to be changed."""

    @abstractmethod
    def _hosted(self) -> Iterable[Hosted[Any]]:
        """The machines that there are."""

    def close(self) -> None:
        """End every machine."""
        self.timeline.close()
        with self.lock:
            found = list(self._hosted())
        for machine in found:
            self._stop_guest(machine, 0.0)
        self._enders.shutdown(wait=True)

    def _stop_guest(self, machine: Hosted[MetadataT], grace: float) -> None:
        """Let nothing run in it; processes have ``grace`` seconds to end by themselves."""
        guest, metadata = machine.guest, machine.metadata
        if guest is not None:
            guest.end(grace=grace)
        if metadata is not None:
            metadata.close()
        with self.lock:
            machine.guest = machine.metadata = None


def most_at_once(spans: Iterable[Span]) -> int:
    """How many were under way at one time, at most."""
    marks = [mark for span in spans for mark in ((span.began, 1), *(() if span.ended is None else ((span.ended, -1),)))]
    return max(itertools.accumulate(change for _, change in sorted(marks)), default=0)
