"""No thread of the worker ends by an exception unnoticed: an item that fails is reported, or the worker ends."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from worker_harness import Harness, wait_until

from cloud_tasks.convert import encode_task_message
from cloud_tasks.model import TaskMessage
from cloud_tasks.plugin import Delivery, QueueTraits
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.consumers.lease_extender import LeaseExtender
from cloud_tasks.worker.consumers.local import LocalConsumer
from cloud_tasks.worker.consumers.queue import QueueConsumer
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.reporting.log_upload import LogUploader
from cloud_tasks.worker.reporting.reporter import Report, Reporter
from cloud_tasks.worker.reporting.sink_forwarder import SinkForwarder
from cloud_tasks.worker.reporting.spool import Spool
from cloud_tasks.worker.supervisor.execution import scratch_cleaner
from cloud_tasks.worker.supervisor.instance_watch import InstanceWatch
from cloud_tasks.worker.supervisor.thread_failures import THREAD_PREFIX, handle_thread_failures

LOG = Log(verbose=False)
TRAITS = QueueTraits(
    max_lease=timedelta(hours=1), max_message_bytes=1 << 20, receive_batch=10, send_batch=10, delay=timedelta(0)
)
PLANTED = [ValueError("planted"), RecursionError("planted"), SystemExit("planted")]


class Failures:
    """Failures of threads as the supervisor receives them."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.arrived = threading.Event()

    def add(self, reason: str, trace: str) -> None:
        assert "planted" in trace
        self.reasons.append(reason)
        self.arrived.set()

    def wait(self) -> str:
        assert self.arrived.wait(60)
        (reason,) = self.reasons
        return reason


@pytest.fixture
def failures() -> Iterator[Failures]:
    found = Failures()
    with handle_thread_failures(found.add):
        yield found


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


def consumer(queue: Any, **callbacks: Any) -> QueueConsumer:
    nothing = dict.fromkeys(("on_malformed", "on_dead", "on_unused", "on_change"), lambda *_: None)
    leases = LeaseExtender(queue, timedelta(hours=1), log=LOG)
    return QueueConsumer(queue, TRAITS, leases, slots=1, max_losses=3, log=LOG, **(nothing | callbacks))


def test_failure_of_the_receiving_thread_is_reported(failures: Failures) -> None:
    receiving = consumer(SimpleNamespace(receive=raising(SystemExit("planted"))))
    receiving.start()
    receiving.request(1, mean_seconds=None)
    assert failures.wait() == "the thread worker-receive failed: SystemExit: planted"


@pytest.mark.parametrize("error", PLANTED[:2])
def test_message_that_cannot_be_decoded_is_reported_once_and_stops_no_other(
    failures: Failures, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    module = sys.modules[QueueConsumer.__module__]
    decode = module.decode_task_message  # type: ignore[attr-defined]
    monkeypatch.setattr(
        module, "decode_task_message", lambda body: raising(error)() if body == b"bad" else decode(body)
    )
    bodies = [b"bad", b'{"task_id": "p", "data": {}, "attempt": Infinity}', b"[" * 5000]
    bodies.append(encode_task_message(TaskMessage(task_id="good", data={})))
    deliveries = [[Delivery(lease_id=str(n), body=body, delivery_count=1) for n, body in enumerate(bodies)]]
    malformed: list[str] = []
    receiving = consumer(
        SimpleNamespace(receive=lambda *_, **__: deliveries.pop() if deliveries else []),
        on_malformed=lambda lease, reason: malformed.append(lease),
    )
    receiving.start()
    receiving.request(10, mean_seconds=None)
    work = wait_until(receiving.get)
    receiving.close()
    assert (work.task_id, malformed, failures.reasons) == ("good", ["0", "1", "2"], [])


@pytest.mark.parametrize("error", PLANTED, ids=repr)
def test_failure_of_the_lease_thread_is_reported_or_repeated(failures: Failures, error: BaseException) -> None:
    calls = threading.Semaphore(0)
    released: list[str] = []

    def extend(*_: Any, **__: Any) -> Sequence[str]:
        calls.release()
        raise error

    leases = LeaseExtender(SimpleNamespace(extend=extend, release=released.extend), timedelta(seconds=0.03), log=LOG)
    leases.hold(["a"])
    leases.start(lambda lost: None)
    assert calls.acquire(timeout=60)
    if isinstance(error, SystemExit):
        assert failures.wait() == "the thread worker-leases failed: SystemExit: planted"
    else:
        assert calls.acquire(timeout=60)
    leases.close()
    leases.give_back()
    assert (released, leases.count) == (["a"], 0)


def test_failure_of_the_reporting_thread_is_reported(failures: Failures, tmp_path: Path) -> None:
    sink = SimpleNamespace(write=raising(SystemExit("planted")), close=lambda: None)
    reporter = Reporter(
        [sink],
        tasks=None,
        max_delay=0.0,
        confirm=lambda leases: (),
        on_acked=lambda leases: None,
        spool=Spool(str(tmp_path / "spool"), destination="x", limit=0),
        log=LOG,
    )
    reporter.put(Report((EventEncoder().encode("keep_alive"),)))
    reporter.start()
    assert failures.wait() == "the thread worker-report failed: SystemExit: planted"
    assert "1 report not delivered" in reporter.close(0.0)


@pytest.mark.parametrize("error", PLANTED, ids=repr)
def test_task_source_that_raises_ends_the_run_with_its_reason(failures: Failures, error: BaseException) -> None:
    @contextmanager
    def source() -> Iterator[Any]:
        raise error
        yield

    local = LocalConsumer(source, on_change=lambda: None)
    local.start()
    wait_until(lambda: local.exhausted)
    local.close()
    assert (local.failure, failures.reasons) == (f"the task source failed: {type(error).__name__}: planted", [])


@pytest.mark.parametrize("error", PLANTED, ids=repr)
def test_log_that_cannot_be_uploaded_stops_no_other(
    failures: Failures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    from cloud_tasks.worker.reporting import log_upload
    from cloud_tasks.worker.task_process import result_store
    from cloud_tasks.worker.task_process.output_capture import log_path

    stored: list[str] = []
    monkeypatch.setattr(log_upload, "_THREADS", 1)
    monkeypatch.setattr(log_upload, "_MAX_ATTEMPTS", 1)
    monkeypatch.setattr(
        result_store, "store_file", lambda address, _: raising(error)() if "bad" in address else stored.append(address)
    )
    problems: list[str] = []
    uploader = LogUploader(str(tmp_path), str(tmp_path / "store"), keep=False, on_problem=problems.append, log=LOG)
    for task_id in ("bad", "good"):
        path = Path(log_path(str(tmp_path), task_id, 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("output")
        assert uploader.put(task_id, 1)
    uploader.close(60.0)
    assert (len(stored), len(problems), uploader.failed, failures.reasons) == (1, 1, 1, [])


@pytest.mark.parametrize("error", PLANTED, ids=repr)
def test_event_that_a_sink_refuses_stops_no_other(
    failures: Failures, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    from cloud_tasks.worker.reporting import sink_forwarder

    monkeypatch.setattr(sink_forwarder, "_RETRY_INTERVAL", 0.001)
    written: list[str] = []
    passed = threading.Event()

    def write(events: Sequence[Any]) -> None:
        if any(event.hostname == "bad" for event in events):
            raise error
        written.extend(event.hostname for event in events)
        if "last" in written:
            passed.set()

    sink = SimpleNamespace(write=write, flush=lambda: None)
    forwarder = SinkForwarder("picky", sink, flush_period=5.0, log=LOG)
    forwarder.write([b"no JSON"])
    forwarder.write([EventEncoder(name).encode("keep_alive") for name in ("one", "bad", "two", "last")])
    assert passed.wait(60)
    forwarder.close()
    assert (written, failures.reasons) == (["one", "two", "last"], [])


@pytest.mark.parametrize("error", PLANTED, ids=repr)
@pytest.mark.parametrize("is_odd", [False, True], ids=["raises", "odd answer"])
def test_identity_that_cannot_be_read_hides_no_termination_notice(
    failures: Failures, error: BaseException, is_odd: bool
) -> None:
    answers = [raising(error), lambda: SimpleNamespace(at=None, reason="notice")]
    noticed = threading.Event()
    side = SimpleNamespace(
        identity=(lambda: None) if is_odd else raising(error),
        termination_notice=lambda: answers.pop(0)() if len(answers) > 1 else answers[0](),
    )
    watch = InstanceWatch(
        side, interval=0.001, on_identity=lambda name: None, on_notice=lambda notice: noticed.set(), log=LOG
    )
    watch.start()
    assert noticed.wait(60)
    watch.close()
    assert failures.reasons == []


def test_scratch_folder_deeper_than_the_stack_is_removed(
    failures: Failures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "rmtree", raising(RecursionError("planted")))
    folder = tmp_path / "scratch"
    (folder / "deep").mkdir(parents=True)
    scratch_cleaner._remove(str(folder))
    assert not folder.exists()


def test_failures_of_other_threads_are_left_to_the_former_hook(
    failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    former: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(threading, "excepthook", former.append)
        with handle_thread_failures(failures.add):
            thread = threading.Thread(target=raising(ValueError("planted")), name="of-a-plugin")
            thread.start()
            thread.join()
    assert (len(former), failures.reasons) == (1, [])


def test_every_thread_of_the_worker_has_the_prefix() -> None:
    package = Path(sys.modules["cloud_tasks.worker"].__file__ or "").parent
    for path in package.rglob("*.py"):
        for line in path.read_text().splitlines():
            if "threading.Thread(" in line:
                assert f'name="{THREAD_PREFIX}' in line or f'name=f"{THREAD_PREFIX}' in line, (path, line)


@pytest.mark.parametrize(
    ("fault", "thread"),
    [("job.receive", "receive"), ("job.extend", "leases"), ("job-events.send", "report")],
)
def test_worker_whose_thread_fails_ends_with_code_1_and_gives_its_leases_back(
    worker: Harness, fault: str, thread: str
) -> None:
    worker.load({"do": "wait"}, {"do": "wait"})
    # With a free slot, it receives all the time.
    process = worker.start_on_queue("--num-simultaneous-tasks", "3", "--lease", "1")
    wait_until(lambda: len(worker.noted("waiting")) == 2, what="the tasks")
    (worker.folder / f"{fault}.exits").touch()
    if thread == "report":
        (worker.folder / "notice").touch()
    finished = worker.finish(process)
    assert finished.code == 1, finished.log
    assert f"the thread worker-{thread} failed: SystemExit: planted" in finished.log
    found = worker.queue().depth()
    assert found.in_flight == 0
    assert worker.nothing_is_left()
