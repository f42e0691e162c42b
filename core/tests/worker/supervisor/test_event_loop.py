"""The supervisor's event loop: descriptors, posted calls, timers, channels."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cloud_tasks import exit_codes
from cloud_tasks.worker.common.ipc import Channel
from cloud_tasks.worker.supervisor.event_loop import EventLoop, LoopChannel
from cloud_tasks.worker.supervisor.signal_handlers import handle_signals

LONG = 60.0


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


def test_event_loop_calls_readers_then_posted_actions_then_due_timers(loop) -> None:
    calls: list[str] = []
    reading, writing = os.pipe()
    loop.later(0.0, lambda: calls.append("timer"))
    loop.later(LONG, lambda: calls.append("later timer"))
    loop.post(lambda: calls.append("posted"))
    loop.add_reader(reading, lambda: calls.append(os.read(reading, 10).decode()))
    os.write(writing, b"reader")
    loop.run_once(LONG)
    assert calls == ["reader", "posted", "timer"]
    assert loop.due_at > time.monotonic() + LONG / 2
    loop.remove_reader(reading)
    loop.remove_reader(reading)
    os.write(writing, b"unread")
    loop.run_once(0.0)
    assert calls == ["reader", "posted", "timer"]
    os.close(reading)
    os.close(writing)


def test_event_loop_is_woken_by_a_call_posted_from_another_thread(loop) -> None:
    threads: list[str] = []
    poster = threading.Timer(0.05, lambda: loop.post(lambda: threads.append(threading.current_thread().name)))
    poster.start()
    started = time.monotonic()
    loop.run_once(LONG)
    assert time.monotonic() - started < LONG / 2
    assert threads == [threading.current_thread().name]
    poster.join()


def test_event_loop_writes_to_no_descriptor_once_closed(tmp_path) -> None:
    loop = EventLoop()
    loop.close()
    files = [(tmp_path / str(number)).open("w") for number in range(5)]
    loop.post(print)
    for file in files:
        file.close()
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0] * 5


def test_event_loop_skips_a_reader_that_an_earlier_one_removed(loop) -> None:
    calls: list[int] = []
    pipes = [os.pipe() for _ in range(2)]

    def read(descriptor: int) -> None:
        calls.append(descriptor)
        for other, _ in pipes:
            loop.remove_reader(other)

    for reading, writing in pipes:
        loop.add_reader(reading, lambda reading=reading: read(reading))
        os.write(writing, b"x")
    loop.run_once(0.0)
    assert len(calls) == 1
    for pipe in pipes:
        for end in pipe:
            os.close(end)


def test_loop_channel_never_blocks_and_sends_the_rest_when_the_socket_is_writable(loop) -> None:
    left, right = socket.socketpair()
    received: list[Any] = []
    channel = LoopChannel(left, loop, lambda: received.extend(channel.get()))
    other = Channel(right, blocking=True)
    messages: list[Any] = []

    def receive() -> None:
        while not messages:
            messages.extend(other.get())

    message = b"x" * 5_000_000
    channel.put(message)
    channel.flush()
    assert channel.unsent
    receiver = threading.Thread(target=receive)
    receiver.start()
    while channel.unsent:
        # Returns because the socket is writable, not after the timeout.
        loop.run_once(LONG)
        channel.flush()
    receiver.join()
    assert messages == [message]
    other.put("answer")
    other.flush()
    loop.run_once(LONG)
    assert received == ["answer"]
    channel.close()
    other.close()


def test_handle_signals_stops_gracefully_then_at_once_and_restores_handlers(loop) -> None:
    stops: list[tuple[str, float | None, int | None]] = []

    def stop(reason: str, *, grace: float | None = None, code: int | None = None) -> None:
        stops.append((reason, grace, code))

    former = signal.getsignal(signal.SIGTERM)
    with handle_signals(loop, stop):
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            loop.run_once(LONG)
    assert stops == [
        ("SIGTERM was received", None, exit_codes.TERMINATED),
        ("SIGINT was received again", 0.0, exit_codes.INTERRUPTED),
    ]
    assert signal.getsignal(signal.SIGTERM) is former
