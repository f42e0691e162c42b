"""Reports that cannot be delivered: they wait on disk, and none is lost."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_harness import Harness, wait_until

from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting import reporter as reporter_module
from cloud_tasks.worker.reporting.reporter import Report, Reporter
from cloud_tasks.worker.reporting.spool import Spool

MIB = 1 << 20


def report(number: int, size: int = 0) -> Report:
    return Report([json.dumps({"event_type": "keep_alive", "number": number, "text": "x" * size}).encode()])


def numbers(reports: Sequence[Report]) -> list[int]:
    return [json.loads(event)["number"] for one in reports for event in one.events]


_open: list[Spool] = []


def spool_in(folder: Path, *, destination: str = "here", limit: int = 100 * MIB) -> Spool:
    _open.append(Spool(str(folder / "spool"), destination=destination, limit=limit))
    return _open[-1]


@pytest.fixture(autouse=True)
def _close_spools() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


def is_larger(spool: Spool, size: int) -> bool:
    return spool.size > size


def drain(spool: Spool, count: int = 100) -> list[int]:
    found: list[int] = []
    while batch := spool.get(count, MIB):
        found += numbers(batch)
        spool.drop(len(batch))
    return found


@given(sizes=st.lists(st.integers(0, 3000), max_size=40), count=st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_spool_returns_reports_in_order_and_leaves_no_file(tmp_path_factory, sizes, count) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = spool_in(folder)
    assert spool.put([report(number, size) for number, size in enumerate(sizes)]) == len(sizes)
    assert drain(spool, count) == list(range(len(sizes)))
    assert not spool
    assert list(folder.iterdir()) == []


def test_spool_keeps_all_fields_of_a_report(tmp_path) -> None:
    spool = spool_in(tmp_path)
    put = Report([b'{"a":1}', b'{"b":2}'], lease_id="läase", release=True, next_body=b'{"x": "\xc3\xa4"}', delay=2.5)
    put.sinks_done = 1
    spool.put([Report([]), put])
    _, found = spool.get(10, MIB)
    names = ("events", "lease_id", "release", "next_body", "delay", "sinks_done")
    assert [getattr(found, name) for name in names] == [getattr(put, name) for name in names]


def test_spool_takes_over_the_reports_of_an_exited_process(tmp_path) -> None:
    first = spool_in(tmp_path)
    first.put([report(number) for number in range(5)])
    first.drop(2)
    first.close()
    second = spool_in(tmp_path)
    second.take_over()
    second.put([report(5)])
    assert drain(second) == [2, 3, 4, 5]
    assert list(tmp_path.iterdir()) == []


def test_spool_ignores_files_of_running_processes_and_other_jobs(tmp_path) -> None:
    living, other = spool_in(tmp_path), spool_in(tmp_path, destination="elsewhere")
    living.put([report(1)])
    other.put([report(2)])
    other.close()
    (tmp_path / "spool" / "0.spool").write_text("no spool at all\n")
    new = spool_in(tmp_path)
    new.take_over()
    assert not new
    assert drain(living) == [1]
    assert len(list((tmp_path / "spool").iterdir())) == 2


def test_spool_ignores_an_incomplete_report_of_a_killed_process(tmp_path) -> None:
    first = spool_in(tmp_path)
    first.put([report(number) for number in range(3)])
    first.close()
    (path,) = (tmp_path / "spool").iterdir()
    content = path.read_bytes()
    for cut in range(len(content) - 60, len(content)):
        path.write_bytes(content[:cut])
        second = spool_in(tmp_path)
        second.take_over()
        assert numbers(second.get(10, MIB)) == [0, 1]
        second.close()
    path.write_bytes(content[: content.index(b'"number": 0')])
    last = spool_in(tmp_path)
    last.take_over()
    assert last.get(10, MIB) == []
    assert list(tmp_path.iterdir()) == []


def test_spool_keeps_the_lease_of_an_exited_process_only_for_a_finished_task(tmp_path) -> None:
    first = spool_in(tmp_path)
    first.put([
        Report([b"{}"], lease_id="over"),
        Report([b"{}"], lease_id="again", next_body=b"{}"),
        Report([b"{}"], lease_id="released", release=True),
    ])  # fmt: skip
    first.close()
    second = spool_in(tmp_path)
    second.take_over()
    assert [(one.lease_id, one.next_body, one.release) for one in second.get(9, MIB)] == [
        ("over", None, False),
        (None, None, False),
        (None, None, False),
    ]


def test_spool_at_its_limit_accepts_no_report(tmp_path) -> None:
    spool = spool_in(tmp_path, limit=20 * MIB)
    taken = spool.put([report(number, MIB) for number in range(30)])
    assert 0 < taken < 20
    assert sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) <= 20 * MIB
    assert "the limit is 21.0 MB" in spool.problem
    assert drain(spool) == list(range(taken))
    assert spool.put([report(7)]) == 1


def test_spool_creates_folders_above_it_only_if_they_never_existed(tmp_path) -> None:
    assert spool_in(tmp_path / "new" / "deep").put([report(1)]) == 1
    work = tmp_path / "work"
    work.mkdir()
    spool = spool_in(work)
    work.rename(tmp_path / "renamed")
    assert spool.put([report(2)]) == 0
    assert spool.problem == "No such file or directory"
    assert not work.exists()
    (tmp_path / "renamed").rename(work)
    assert spool.put([report(2)]) == 1


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Return a function that limits the size of files, which simulates a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_spool_on_a_full_disk_writes_no_partial_report(tmp_path, small_files) -> None:
    spool = spool_in(tmp_path)
    assert spool.put([report(0, 1000)]) == 1
    small_files(3000)
    assert spool.put([report(1, 10_000), report(2)]) == 0
    assert spool.problem == "File too large"
    small_files(resource.RLIM_INFINITY)
    assert spool.put([report(1)]) == 1
    assert drain(spool) == [0, 1]


class Sink:
    """A sink that raises while it is out."""

    def __init__(self) -> None:
        self.out = threading.Event()
        self.rejected = 0
        self.events: list[bytes] = []

    def write(self, events: Sequence[bytes]) -> None:
        if self.out.is_set():
            self.rejected += 1
            raise OSError("outage")
        self.events += events

    def close(self) -> None:
        self.out.clear()


def reporter_with(spool: Spool, *sinks: Sink, is_billed: bool = False) -> Reporter:
    reporter = Reporter(
        sinks,
        tasks=None,
        max_delay=0.0,
        confirm=lambda leases: (),
        on_acked=lambda leases: None,
        spool=spool,
        is_billed=is_billed,
        log=Log(verbose=False),
    )
    reporter.start()
    return reporter


def sent(sink: Sink) -> list[int]:
    return [json.loads(event)["number"] for event in list(sink.events)]


def test_reporter_writes_nothing_to_disk_without_an_outage(tmp_path) -> None:
    sink = Sink()
    reporter = reporter_with(spool_in(tmp_path), sink)
    for number in range(100):
        reporter.put(report(number))
    assert reporter.close(10) == ""
    assert sent(sink) == list(range(100))
    assert list(tmp_path.iterdir()) == []


def test_reporter_joins_the_reports_of_a_while_where_requests_cost_money(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(reporter_module, "_BILLED_BATCH_SECONDS", 3600.0)
    writes: list[list[int]] = []

    class Counting(Sink):
        def write(self, events: Sequence[bytes]) -> None:
            writes.append([json.loads(event)["number"] for event in events])

    reporter = reporter_with(spool_in(tmp_path), Counting(), is_billed=True)
    reporter.put(report(0))
    wait_until(lambda: writes)
    reporter.put(report(1))
    reporter.put(report(2))
    assert reporter.close(10) == ""
    assert writes == [[0], [1, 2]]


def test_reporter_waits_for_no_more_than_a_batch_where_requests_cost_money(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(reporter_module, "_BILLED_BATCH_SECONDS", 3600.0)
    monkeypatch.setattr(reporter_module, "_BATCH_REPORTS", 3)
    sink = Sink()
    reporter = reporter_with(spool_in(tmp_path), sink, is_billed=True)
    reporter.put(report(0))
    wait_until(lambda: len(sink.events) == 1)
    for number in range(1, 7):
        reporter.put(report(number))
    wait_until(lambda: len(sink.events) == 7)
    reporter.close(10)


def test_reporter_spools_reports_of_an_outage_and_delivers_them_in_order(tmp_path) -> None:
    sink, spool = Sink(), spool_in(tmp_path)
    sink.out.set()
    reporter = reporter_with(spool, sink)
    for number in range(500):
        reporter.put(report(number, 10_000))
    wait_until(lambda: spool.size > 500 * 10_000)
    assert not reporter.is_clogged
    sink.out.clear()
    for number in range(500, 600):
        reporter.put(report(number))
    assert reporter.close(30) == ""
    assert sent(sink) == list(range(600))
    assert list(tmp_path.iterdir()) == []


def test_reporter_writes_events_once_to_a_working_sink_while_another_is_out(tmp_path) -> None:
    good, bad = Sink(), Sink()
    bad.out.set()
    reporter = reporter_with(spool_in(tmp_path), good, bad)
    reporter.put(report(0))
    wait_until(lambda: bad.rejected >= 2)
    reporter.put(report(1))
    bad.out.clear()
    assert reporter.close(30) == ""
    assert sent(good) == sent(bad) == [0, 1]


def test_reporter_keeps_reports_in_memory_up_to_its_limit_if_the_disk_fails(tmp_path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    sink = Sink()
    sink.out.set()
    reporter = reporter_with(spool_in(tmp_path), sink)
    count = 0
    while not reporter.is_clogged:
        reporter.put(report(count, MIB))
        count += 1
        assert count < 200
    sink.out.clear()
    assert reporter.close(30) == ""
    assert sent(sink) == list(range(count))


def test_reporter_limits_the_leases_of_waiting_reports(tmp_path) -> None:
    sink, spool = Sink(), spool_in(tmp_path)
    sink.out.set()
    reporter = reporter_with(spool, sink)
    event = b"x" * 100
    for count in range(10_000, 60_000, 10_000):
        for number in range(10_000):
            reporter.put(Report([event], lease_id=str(number)))
        wait_until(partial(is_larger, spool, count * len(event)))
        wait_until(lambda: not reporter.is_clogged)
    reporter.put(Report([event], lease_id="one more"))
    assert reporter.is_clogged
    reporter.close(0)


def test_reporter_leaves_undelivered_reports_on_disk(tmp_path) -> None:
    sink = Sink()
    sink.out.set()
    reporter = reporter_with(spool_in(tmp_path), sink)
    reporter.put(report(0))
    wait_until(lambda: sink.rejected)
    reporter.put(report(1))
    assert "of reports wait in" in reporter.close(0.1)
    again, spool = Sink(), spool_in(tmp_path)
    spool.take_over()
    assert reporter_with(spool, again).close(30) == ""
    assert sent(again) == [0, 1]


def resident_peak_mb(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def test_supervisor_needs_no_memory_for_an_outage_of_the_event_queue(worker: Harness) -> None:
    worker.load(*({"do": "big", "size": 200_000} for _ in range(300)))
    fault = worker.fault("job-events.send")
    process = worker.start_on_queue("--reuse-processes", "100", CLOUD_TASKS_IDLE_LIMIT="3")
    folder = worker.folder / "cloud-tasks-spool"
    wait_until(lambda: folder.exists() and sum(path.stat().st_size for path in folder.iterdir()) > 300 * 200_000)
    assert resident_peak_mb(process.pid) < 90
    fault.unlink()
    assert worker.finish(process).code == 0
    assert len({event["task_id"] for event in worker.queued_events("task_completed")}) == 300
    assert not folder.exists()


def test_events_survive_a_killed_supervisor(worker: Harness) -> None:
    worker.load(*({"do": "nothing"} for _ in range(10)))
    fault = worker.fault("job-events.send")
    process = worker.start_on_queue()
    folder = worker.folder / "cloud-tasks-spool"
    wait_until(
        lambda: folder.exists() and sum(path.read_bytes().count(b'"task_completed"') for path in folder.iterdir()) == 10
    )
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    fault.unlink()
    finished = worker.run_on_queue()
    assert "An earlier worker left" in finished.log
    assert sorted(event["task_id"] for event in worker.queued_events("task_completed")) == sorted(
        f"task-{n}" for n in range(10)
    )
    assert not folder.exists()


def test_resume_reads_events_from_the_spool(worker: Harness) -> None:
    logs, tasks = worker.folder / "logs", ({"do": "nothing"}, {"do": "nothing"})
    log = ("--event-log-file", "logs/full")
    # The event log is a device without room at first, then a file.
    logs.symlink_to("/dev")
    first = worker.run_tasks(*tasks, args=("--max-num-tasks", "1", "--flush-period", "1", *log))
    assert first.code == 1, first.log
    logs.unlink()
    logs.mkdir()
    second = worker.run_tasks(*tasks, args=("--resume", *log))
    assert second.code == 0, second.log
    (logs / "full").rename(worker.folder / "events.log")
    assert [event["task_id"] for event in worker.events("task_completed")] == ["task-0", "task-1"]
