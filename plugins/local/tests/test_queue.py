"""Invariants of `SqliteQueue`; the general contract is in test_conformance.py."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import QueueOwner
from cloud_tasks_local.queue import SqliteQueue, queue_file

AT_ONCE = timedelta(0)
LEASE = timedelta(seconds=60)


OpenQueue = Callable[..., SqliteQueue]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return queue_file(tmp_path, "tasks")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_queue(path: Path) -> Iterator[OpenQueue]:
    with ExitStack() as stack:

        def open_at(file: Path = path, **options: Any) -> SqliteQueue:
            queue = SqliteQueue(file, lease=LEASE, **options)
            stack.callback(queue.close)
            return queue

        yield open_at


@pytest.fixture
def queue(open_queue: OpenQueue, clock: Clock) -> SqliteQueue:
    queue = open_queue(clock=clock)
    queue.create()
    return queue


def start(role: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("queue_process.py")
    return subprocess.Popen(
        [sys.executable, str(program), role, str(path), *arguments], stdout=subprocess.PIPE, text=True
    )


def output_of(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate()
    assert process.returncode == 0
    return output.split()


def first_line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_receive_from_four_processes_delivers_each_message_once(open_queue: OpenQueue, path: Path) -> None:
    queue = open_queue()
    queue.create()
    queue.send([b"%d" % number for number in range(2000)])
    consumers = [start("consume", path) for _ in range(4)]
    received = Counter(body for consumer in consumers for body in output_of(consumer))
    assert received == Counter(str(number) for number in range(2000))
    assert queue.depth().in_flight == queue.depth().visible == 0


def test_send_from_concurrent_processes_loses_no_message(open_queue: OpenQueue, path: Path) -> None:
    queue = open_queue()
    queue.create()
    senders = [start("send", path, first, "200") for first in ("0", "200", "400")]
    for sender in senders:
        assert output_of(sender) == []
    bodies = {delivery.body for delivery in queue.receive(1000, wait=AT_ONCE)}
    assert bodies == {b"%d" % number for number in range(600)}


def test_receive_from_threads_delivers_each_message_once(queue: SqliteQueue) -> None:
    queue.send([b"%d" % number for number in range(500)])
    received: list[bytes] = []

    def consume() -> None:
        while deliveries := queue.receive(3, wait=AT_ONCE):
            received.extend(delivery.body for delivery in deliveries)
            queue.ack([delivery.lease_id for delivery in deliveries])

    threads = [threading.Thread(target=consume) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(received) == Counter(b"%d" % number for number in range(500))


def test_receive_redelivers_message_of_killed_consumer(open_queue: OpenQueue, path: Path) -> None:
    queue = open_queue()
    queue.create()
    queue.send([b"task"])
    with start("lease_and_wait", path, "0.2") as consumer:
        lost = first_line_of(consumer)
        consumer.kill()
    (delivery,) = queue.receive(1, wait=timedelta(seconds=20))
    assert (delivery.body, delivery.delivery_count) == (b"task", 2)
    assert list(queue.ack([lost])) == [lost]


def test_send_survives_kill_of_sender(open_queue: OpenQueue, path: Path) -> None:
    queue = open_queue()
    queue.create()
    with start("send_forever", path) as sender:
        reported = [first_line_of(sender) for _ in range(200)]
        sender.kill()
        assert sender.stdout is not None
        # The last line may be incomplete because of the kill.
        reported += sender.stdout.read().split("\n")[:-1]
    bodies = set()
    while deliveries := queue.receive(1000, wait=AT_ONCE):
        bodies |= {delivery.body.decode() for delivery in deliveries}
    assert set(reported) <= bodies


def test_ack_of_lease_from_deleted_queue_is_lost(
    open_queue: OpenQueue, queue: SqliteQueue, path: Path, clock: Clock
) -> None:
    consumer = open_queue(clock=clock)
    queue.send([b"old"])
    (old,) = consumer.receive(1, wait=AT_ONCE)
    queue.delete()
    queue.create()
    queue.send([b"new"])
    assert list(consumer.ack([old.lease_id])) == [old.lease_id]
    assert [delivery.body for delivery in consumer.receive(10, wait=AT_ONCE)] == [b"new"]


def test_receive_raises_when_queue_is_deleted(open_queue: OpenQueue, queue: SqliteQueue, path: Path) -> None:
    consumer = open_queue()
    consumer.receive(1, wait=AT_ONCE)
    timer = threading.Timer(0.1, queue.delete)
    timer.start()
    with pytest.raises(NotFoundError):
        consumer.receive(1, wait=timedelta(seconds=20))
    timer.join()


def test_receive_raises_when_folder_is_removed(queue: SqliteQueue, path: Path) -> None:
    queue.receive(1, wait=AT_ONCE)
    shutil.rmtree(path.parent)
    with pytest.raises(NotFoundError):
        queue.receive(1, wait=AT_ONCE)
    assert not queue.exists()
    queue.create()
    assert list(queue.send([b"again"])) == []
    assert [delivery.body for delivery in queue.receive(1, wait=AT_ONCE)] == [b"again"]


def test_receive_continues_with_replaced_file(
    open_queue: OpenQueue, queue: SqliteQueue, path: Path, tmp_path: Path
) -> None:
    consumer = open_queue()

    def replace() -> None:
        successor = open_queue(queue_file(tmp_path / "other", "tasks"))
        successor.create()
        successor.send([b"successor"])
        successor.close()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.replace(queue_file(tmp_path / "other", "tasks"), path)

    timer = threading.Timer(0.1, replace)
    timer.start()
    deliveries = consumer.receive(1, wait=timedelta(seconds=20))
    timer.join()
    assert [delivery.body for delivery in deliveries] == [b"successor"]


def test_connection_pool_reopens_after_fork(queue: SqliteQueue, clock: Clock) -> None:
    queue.send([b"parent"])
    child = os.fork()
    if not child:
        code = 1
        try:
            (delivery,) = queue.receive(1, wait=AT_ONCE)
            code = 0 if not queue.ack([delivery.lease_id]) and not queue.send([b"child"]) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [delivery.body for delivery in queue.receive(10, wait=AT_ONCE)] == [b"child"]


def test_receive_hides_message_until_delay_is_over(queue: SqliteQueue, clock: Clock) -> None:
    queue.send([b"later"], delay=timedelta(seconds=30))
    clock.advance(29.9)
    assert list(queue.receive(1, wait=AT_ONCE)) == []
    clock.advance(0.1)
    assert [delivery.body for delivery in queue.receive(1, wait=AT_ONCE)] == [b"later"]


def test_depth_counts_delayed_message_as_in_flight(queue: SqliteQueue) -> None:
    queue.send([b"now"])
    queue.send([b"later"], delay=timedelta(seconds=30))
    depth = queue.depth()
    assert (depth.visible, depth.in_flight, depth.exact) == (1, 1, True)


def test_extend_sets_end_of_lease(queue: SqliteQueue, clock: Clock) -> None:
    queue.send([b"long"])
    (first,) = queue.receive(1, wait=AT_ONCE)
    clock.advance(59)
    assert list(queue.extend([first.lease_id], lease=timedelta(seconds=100))) == []
    clock.advance(99)
    assert list(queue.receive(1, wait=AT_ONCE)) == []
    clock.advance(1)
    (second,) = queue.receive(1, wait=AT_ONCE)
    assert second.delivery_count == 2
    assert list(queue.ack([first.lease_id])) == [first.lease_id]


def test_receive_returns_messages_in_order_of_sending(queue: SqliteQueue, clock: Clock) -> None:
    for number in range(20):
        queue.send([b"%d" % number])
        clock.advance(0.001)
    bodies = [delivery.body for delivery in queue.receive(20, wait=AT_ONCE)]
    assert bodies == [b"%d" % number for number in range(20)]


def test_delete_releases_disk_space(queue: SqliteQueue, path: Path) -> None:
    queue.send([b"x" * 100_000] * 100)
    queue.delete()
    assert path.stat().st_size < 100_000


def test_create_on_invalid_file_raises_provider_error(open_queue: OpenQueue, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is not a database, however long it may be" * 100)
    with pytest.raises(ProviderError, match="not a database"):
        open_queue().create()


def test_send_to_locked_file_raises_transient_error(open_queue: OpenQueue, queue: SqliteQueue, path: Path) -> None:
    short_timeout = open_queue(timeout=timedelta(seconds=0.05))
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(ProviderError) as caught:
            short_timeout.send([b"task"])
    finally:
        blocker.close()
    assert caught.value.transient


@pytest.mark.parametrize("name", ["plain", "with/slash", "..", "ünïcode?", "a.b"])
def test_queue_file_is_unique_and_in_folder(open_queue: OpenQueue, tmp_path: Path, name: str) -> None:
    assert queue_file(tmp_path, name).parent == tmp_path / "queues"
    open_queue(queue_file(tmp_path, name)).create()
    assert len(list((tmp_path / "queues").glob("*.sqlite3"))) == 1


def test_depth_waits_for_exclusive_lock(open_queue: OpenQueue, queue: SqliteQueue, path: Path) -> None:
    queue.close()
    blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    blocker.execute("PRAGMA locking_mode = EXCLUSIVE")
    blocker.execute("BEGIN IMMEDIATE")
    blocker.execute("COMMIT")
    with pytest.raises(ProviderError):
        open_queue(timeout=timedelta(0)).depth()
    timer = threading.Timer(0.1, blocker.close)
    timer.start()
    assert open_queue().depth().visible == 0
    timer.join()


def test_message_whose_delay_has_passed_is_delivered_before_those_without_one(
    open_queue: OpenQueue, clock: Clock
) -> None:
    """A retry waits for its delay, not for all tasks of the job."""
    queue = open_queue(clock=clock)
    queue.create()
    queue.send([b"task %d" % number for number in range(100)])
    clock.advance(5)
    queue.send([b"retry"], delay=timedelta(seconds=10))
    (first,) = queue.receive(1, wait=AT_ONCE)
    assert first.body == b"task 0"
    queue.release([first.lease_id], delay=timedelta(seconds=20))
    clock.advance(9)
    assert [each.body for each in queue.receive(2, wait=AT_ONCE)] == [b"task 1", b"task 2"]
    clock.advance(1)
    assert [each.body for each in queue.receive(2, wait=AT_ONCE)] == [b"retry", b"task 3"]
    clock.advance(10)
    (again,) = queue.receive(1, wait=AT_ONCE)
    assert (again.body, again.delivery_count) == (b"task 0", 2)
    assert list(queue.ack([again.lease_id])) == []


def test_mark_of_a_delayed_message_is_no_lease(open_queue: OpenQueue, clock: Clock) -> None:
    queue = open_queue(clock=clock)
    queue.create()
    queue.send([b"retry"], delay=timedelta(seconds=10))
    assert list(queue.ack(["1.delayed"])) == ["1.delayed"]
    clock.advance(10)
    assert [each.body for each in queue.receive(9, wait=AT_ONCE)] == [b"retry"]


# -- rows written by other programs ----------------------------------------------------------------------------------


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("7", b"7"),
        ("1.5", b"1.5"),
        ("'caf\u00e9'", "caf\u00e9".encode()),
        ("CAST(x'ff' AS TEXT)", b"\xff"),
        ("x'00ff'", b"\x00\xff"),
    ],
)
def test_body_of_any_type_is_delivered_as_bytes(queue: SqliteQueue, path: Path, value: str, body: bytes) -> None:
    change(path, f"INSERT INTO messages (visible_at, body) VALUES (0, {value})")
    (delivery,) = queue.receive(9, wait=AT_ONCE)
    assert delivery.body == body
    assert list(queue.ack([delivery.lease_id])) == []


@pytest.mark.parametrize("value", ["'soon'", "CAST(x'ff' AS TEXT)", "x'ff'", "1e300", "9e999", "-9e999", "-1", "'5'"])
def test_message_with_an_invalid_time_is_due(queue: SqliteQueue, path: Path, value: str) -> None:
    queue.send([b"other"])
    change(path, f"INSERT INTO messages (visible_at, body) VALUES ({value}, 'odd')")
    depth = queue.depth()
    assert (depth.visible, depth.in_flight) == (2, 0)
    deliveries = queue.receive(9, wait=AT_ONCE)
    assert {delivery.body for delivery in deliveries} == {b"other", b"odd"}
    assert list(queue.receive(9, wait=AT_ONCE)) == []
    assert list(queue.ack([delivery.lease_id for delivery in deliveries])) == []


@pytest.mark.parametrize("value", ["'many'", "x'ff'", "-3", str(2**63 - 1), "1e300", "9e999", "-9e999", "1.5"])
def test_delivery_count_of_any_type_is_a_positive_number(queue: SqliteQueue, path: Path, value: str) -> None:
    change(path, f"INSERT INTO messages (visible_at, deliveries, body) VALUES (0, {value}, 'odd')")
    (delivery,) = queue.receive(9, wait=AT_ONCE)
    assert isinstance(delivery.delivery_count, int)
    assert 1 <= delivery.delivery_count <= 2**31
    assert list(queue.release([delivery.lease_id])) == []
    (again,) = queue.receive(9, wait=AT_ONCE)
    assert again.delivery_count == delivery.delivery_count + 1


@pytest.mark.parametrize("value", ["7", "''", "x'ff'", "CAST(x'ff' AS TEXT)", "'delayed'", "x'64656c61796564'", "NULL"])
def test_message_with_an_invalid_lease_is_delivered(queue: SqliteQueue, path: Path, value: str) -> None:
    change(path, f"INSERT INTO messages (visible_at, lease, body) VALUES (0, {value}, 'odd')")
    (delivery,) = queue.receive(9, wait=AT_ONCE)
    assert list(queue.ack([delivery.lease_id])) == []
    assert queue.depth().in_flight == 0


# -- owner ---------------------------------------------------------------------------------------------------------


def owned(tmp_path: Path, job_id: str = "job") -> SqliteQueue:
    return SqliteQueue(queue_file(tmp_path, "shared"), lease=timedelta(seconds=60), job_id=job_id)


def test_owner_is_the_job_that_created_the_queue(tmp_path: Path) -> None:
    with closing(owned(tmp_path, "first")) as first, closing(owned(tmp_path, "second")) as second:
        assert second.owner() is None
        first.create()
        second.create()
        assert second.owner() == QueueOwner(job_id="first")
        first.delete()
        assert second.owner() is None
        second.create()
        assert first.owner() == QueueOwner(job_id="second")


def test_claim_is_exclusive_until_the_queue_is_closed(tmp_path: Path) -> None:
    with closing(owned(tmp_path)) as first, closing(owned(tmp_path, "other")) as second:
        first.create()
        first.claim()
        first.claim()
        assert second.owner() == QueueOwner(job_id="job", controller=f"PID {os.getpid()}")
        with pytest.raises(ProviderError, match=rf"in use by the controller of job job \(PID {os.getpid()}\)"):
            second.claim()
        first.close()
        assert second.owner() == QueueOwner(job_id="job")
        second.claim()
    assert [path.name for path in (tmp_path / "queues").glob("*.controller")] == []


def test_claim_of_a_killed_process_is_released(tmp_path: Path) -> None:
    program = (
        "import sys, time; from datetime import timedelta; from pathlib import Path\n"
        "from cloud_tasks_local.queue import SqliteQueue, queue_file\n"
        "queue = SqliteQueue(queue_file(Path(sys.argv[1]), 'shared'), lease=timedelta(seconds=60))\n"
        "queue.claim(); print('claimed', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with closing(owned(tmp_path)) as queue:
            with pytest.raises(ProviderError, match=f"PID {holder.pid}"):
                queue.claim()
            holder.kill()
            holder.wait()
            queue.claim()


def test_queue_names_of_any_length_have_files_of_their_own(tmp_path: Path) -> None:
    full_names = [f"{'j' * 63}-{'0' * 16}-{number}{end}" for number in (1, 2) for end in ("", "-events")]
    names = ["x" * 300, "x" * 299 + "y", "é" * 200, "a/b", "a%2Fb", *full_names]
    assert len({queue_file(tmp_path, name) for name in names}) == len(names)
    for name in names:
        queue = SqliteQueue(queue_file(tmp_path, name), lease=timedelta(seconds=60))
        queue.create()
        assert queue.exists()
        queue.close()
    assert queue_file(tmp_path, "job-tasks").name == "job-tasks.sqlite3"
