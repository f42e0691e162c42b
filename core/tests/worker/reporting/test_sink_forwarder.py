"""Forwarding of events to a sink that is slow or fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from cloud_tasks.model import Event
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting import sink_forwarder
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.reporting.sink_forwarder import SinkForwarder


class Sink:
    """A sink whose calls wait for `open`, then fail if `fails` is set."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.calls = threading.Semaphore(0)
        self.open = threading.Event()

    def write(self, events: Sequence[Event]) -> None:
        self.calls.release()
        self.open.wait(60)
        if self.fails:
            raise OSError("the sink is full")

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def event() -> bytes:
    return EventEncoder().encode("keep_alive")


@pytest.fixture(autouse=True)
def intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_forwarder, "_RETRY_INTERVAL", 3600.0)
    monkeypatch.setattr(sink_forwarder, "_GRACE", 0.1)


def test_sink_forwarder_waits_between_attempts_while_events_arrive(event: bytes) -> None:
    sink = Sink(fails=True)
    sink.open.set()
    forwarder = SinkForwarder("full", sink, flush_period=0.0, log=Log(verbose=False))
    forwarder.write([event])
    assert sink.calls.acquire(timeout=60)
    for _ in range(5):
        forwarder.write([event])
        assert not sink.calls.acquire(timeout=0.1)
    forwarder.close()
    assert forwarder.undelivered == 6


def test_sink_forwarder_counts_events_in_an_unfinished_call_as_dropped(event: bytes) -> None:
    sink = Sink(fails=False)
    forwarder = SinkForwarder("slow", sink, flush_period=0.0, log=Log(verbose=False))
    forwarder.write([event, event])
    assert sink.calls.acquire(timeout=60)
    forwarder.write([event])
    forwarder.close()
    assert forwarder.undelivered == 3
    sink.open.set()
