"""Process that uses a queue, for tests: ``queue_process.py ROLE FILE [ARGUMENTS]``; prints one line per action."""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from cloud_tasks_local.queue import SqliteQueue

AT_ONCE = timedelta(0)


def consume(path: Path) -> None:
    queue = SqliteQueue(path, lease=timedelta(seconds=60))
    while deliveries := queue.receive(7, wait=AT_ONCE):
        for delivery in deliveries:
            print(delivery.body.decode())
        assert list(queue.ack([delivery.lease_id for delivery in deliveries])) == []


def send(path: Path, first: str, count: str) -> None:
    queue = SqliteQueue(path, lease=timedelta(seconds=60))
    for number in range(int(first), int(first) + int(count)):
        assert list(queue.send([b"%d" % number])) == []


def send_forever(path: Path) -> None:
    queue = SqliteQueue(path, lease=timedelta(seconds=60))
    for number in itertools.count():
        assert list(queue.send([b"%d" % number])) == []
        print(number, flush=True)


def lease_and_wait(path: Path, seconds: str) -> None:
    queue = SqliteQueue(path, lease=timedelta(seconds=float(seconds)))
    (delivery,) = queue.receive(1, wait=AT_ONCE)
    print(delivery.lease_id, flush=True)
    signal.pause()


if __name__ == "__main__":
    role, file, *arguments = sys.argv[1:]
    roles: dict[str, Callable[..., None]] = {
        function.__name__: function for function in (consume, send, send_forever, lease_and_wait)
    }
    roles[role](Path(file), *arguments)
