"""Tasks that damage their own process, its files or its descriptors: each affects itself only."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_harness import Harness, modes, run_program

from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError, socket_pair
from cloud_tasks.worker.common.private_folder import create_private_folder
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt, RunningAttempt
from cloud_tasks.worker.reporting.reporter import Report
from cloud_tasks.worker.supervisor.event_loop import EventLoop
from cloud_tasks.worker.supervisor.execution.completion import Completion
from cloud_tasks.worker.supervisor.execution.outcome import Outcome, OutcomeKind, read_outcome
from cloud_tasks.worker.supervisor.execution.process_pool import ProcessPool
from cloud_tasks.worker.supervisor.execution.scratch_cleaner import ScratchCleaner
from cloud_tasks.worker.supervisor.task_log import end_lines
from cloud_tasks.worker.task_process import result_file
from cloud_tasks.worker.task_process.assignment import Assignment
from cloud_tasks.worker.task_process.report_format import HEADER_LENGTH, encode_report, split_report
from cloud_tasks.worker.task_process.result_encoding import report_result
from cloud_tasks.worker.task_process.result_file import receive_result

ENDS = ("task_completed", "task_exception", "task_exited", "task_timed_out", "task_released", "task_dead")


def run(worker: Harness, body: str, *args: str, before: str = "", tasks: int = 3) -> list[dict[str, Any]]:
    """Run tasks of which task-1 has this function body and the others return 7; return the end events of task-1."""
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    code = f"{before}\ndef f(task_id, data, worker_data):\n    if task_id == 'task-1':\n{lines}    return 7\n"
    options = ("--max-runtime", "20", "--num-simultaneous-tasks", "2", *args)
    finished = run_program(worker, code, *options, tasks=tasks)
    events = worker.events(*ENDS)
    others = sorted((event["task_id"], event["event_type"], event.get("result")) for event in events)
    others = [each for each in others if each[0] != "task-1"]
    expected = [(f"task-{number}", "task_completed", 7) for number in range(tasks) if number != 1]
    assert others == expected, finished.log
    assert worker.events("fatal_exception") == []
    return [event for event in events if event["task_id"] == "task-1"]


FORKS = """
pid = os.fork()
if pid == 0:
    {child}
time.sleep(0.2)
(Path("code.txt")).write_text(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
return "parent"
"""


@modes
@pytest.mark.parametrize(
    ("child", "code"),
    [
        ("return 'child' * 30_000", 0),
        ("return True, 'child'", 0),
        ("raise ValueError('child')", 1),
        ("sys.exit(5)", 5),
        ("sys.exit('text')", 1),
        ("from cloud_tasks import Retry; raise Retry('child')", 1),
    ],
)
def test_child_of_a_task_that_leaves_the_function_reports_nothing(worker, mode, child, code) -> None:
    (event,) = run(worker, FORKS.format(child=child), *mode)
    assert (event["event_type"], event["result"]) == ("task_completed", "parent")
    assert (worker.folder / "code.txt").read_text() == str(code)


@modes
@pytest.mark.parametrize("mark", ["cloud-tasks-result", "socket:"])
def test_bytes_written_to_descriptors_of_the_worker_affect_their_task_only(worker, mode, mark) -> None:
    body = f"""
for number in os.listdir("/proc/self/fd"):
    try:
        if {mark!r} in os.readlink(f"/proc/self/fd/{{number}}"):
            os.write(int(number), b"x\\n")
    except OSError:
        continue
return 8
"""
    (event,) = run(worker, body, *mode)
    if mark == "socket:" and "--reuse-processes" in mode:
        assert event["event_type"] == "task_exited"
        assert event["cause"] == "the report of the task is damaged: the task wrote to a descriptor of the worker"
    else:
        assert (event["event_type"], event["result"]) == ("task_completed", 8)


DAMAGES = (
    "os.write(number, b'\\1' * 4096)",
    "os.pwrite(number, b'\\1' * 4096, 0)",
    "os.ftruncate(number, 0)",
    "os.ftruncate(number, 1 << 20)",
    "os.pwrite(os.open(flags(number), os.O_RDWR), b'\\1' * 4096, 0)",
    "os.truncate(flags(number), 0)",
    "os.set_blocking(number, False); os.read(number, 1 << 16)",
    "mmap.mmap(number, 4096)[:] = b'\\1' * 4096",
)


@modes
def test_task_that_damages_all_its_descriptors_affects_no_other_task(worker, mode) -> None:
    damages = "".join(
        f"""
            if task_id == "task-{2 * index + 1}":
                try: {damage}
                except (OSError, ValueError): pass"""
        for index, damage in enumerate(DAMAGES)
    )
    code = f"""
import mmap, time
def flags(number):
    path = f"/proc/self/fd/{{number}}"
    return path if "result" not in os.readlink(path) else "/nowhere"
def f(task_id, data, worker_data):
    if int(task_id[5:]) % 2:
        for number in range(3, 64):{damages}
    time.sleep(0.1)
    return worker_data.received_termination_notice, [worker_data.received_shutdown_request]
"""
    options = ("--num-simultaneous-tasks", "2", "--max-runtime", "20")
    finished = run_program(worker, code, *mode, *options, tasks=2 * len(DAMAGES) + 1)
    assert "Traceback" not in finished.log, finished.log
    ends = {event["task_id"]: event.get("result") for event in worker.events(*ENDS)}
    assert len(ends) == 2 * len(DAMAGES) + 1
    others = {task_id: result for task_id, result in ends.items() if int(task_id[5:]) % 2 == 0}
    assert others == {f"task-{2 * index}": [False] for index in range(len(DAMAGES) + 1)}, finished.log
    assert worker.events("fatal_exception", "non_fatal_exception") == []


def test_error_of_a_report_is_that_of_its_own_attempt_only() -> None:
    flags = SharedFlags()
    flags.set_report_error(3, 7, errno.EIO)
    os.pwrite(flags.descriptors[1], b"\1" * 24, 0)
    assert [flags.take_report_error(slot, 7) for slot in (0, 2, 3, 3, 10**6)] == [0, 0, errno.EIO, 0, 0]


def test_flags_that_are_read_only_cannot_be_set() -> None:
    flags = SharedFlags()
    reader = SharedFlags((os.dup(flags.descriptors[0]), os.dup(flags.descriptors[1])))
    reader.make_read_only()
    with pytest.raises(TypeError):
        reader.set_shutdown_request()
    flags.set_shutdown_request()
    assert (reader.shutdown_request, reader.termination_notice) == (True, False)


@pytest.mark.parametrize("leave", ["return", "raise ValueError('child')"])
def test_child_of_worker_init_that_leaves_the_function_serves_no_tasks(worker, leave) -> None:
    code = f"""
import sys
def init(worker_data):
    if os.fork() == 0:
        {leave}
def f(task_id, data, worker_data): return 7
if __name__ == "__main__":
    Worker(f, worker_init=init, args=sys.argv[1:]).run()
    sys.exit()
"""
    finished = run_program(worker, code, tasks=3)
    assert finished.code == 0, finished.log
    assert [event["result"] for event in worker.events(*ENDS)] == [7] * 3


@modes
def test_report_that_a_task_overwrites_is_damaged(worker, mode) -> None:
    body = """
def overwrite():
    for number in os.listdir("/proc/self/fd"):
        if "cloud-tasks-result" in os.path.basename(os.path.realpath(f"/proc/self/fd/{number}")):
            os.pwrite(int(number), b"x" * 99, 0)
atexit.register(overwrite)
return 8
"""
    (event,) = run(worker, body, *mode)
    if "--reuse-processes" in mode:
        assert (event["event_type"], event["result"]) == ("task_completed", 8)
    else:
        assert event["event_type"] == "task_exited"
        assert event["cause"] == "the report of the task is damaged: the task wrote to a descriptor of the worker"


@modes
def test_children_have_no_other_result_file_open_for_writing(worker, mode) -> None:
    code = """
import fcntl
def f(task_id, data, worker_data):
    time.sleep(0.05)
    named = [n for n in os.listdir("/proc/self/fd") if "cloud-tasks-result" in os.path.realpath(f"/proc/self/fd/{n}")]
    return sum(fcntl.fcntl(int(n), fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY for n in named)
"""
    run_program(worker, code, "--num-simultaneous-tasks", "3", *mode, tasks=12)
    own = 0 if "--reuse-processes" in mode else 1
    assert [event["result"] for event in worker.events(*ENDS)] == [own] * 12


@given(content=st.binary(max_size=60), result=st.binary(max_size=20), head=st.sampled_from([b"", b"{}", b"[]", b"{x"]))
def test_read_outcome_of_any_bytes_has_a_valid_result_and_log_lines(content, result, head) -> None:
    size = len(head) + len(result)
    for report in (content, size.to_bytes(8, "little") + len(head).to_bytes(8, "little") + head + result):
        outcome = read_outcome(status=0, content=report, cause="")
        json.loads(outcome.result or b"null")
        list(end_lines(Completion(Report(()), "task", outcome, False), 1, 0.5, is_alone=True))


@given(result=st.binary(max_size=20))
def test_lines_accept_any_result(result) -> None:
    for text in (result, b'"' + result):
        outcome = Outcome(kind=OutcomeKind.COMPLETED, result=text)
        assert list(end_lines(Completion(Report(()), "task", outcome, False), 1, 0.5, is_alone=False))


def test_split_report_rejects_a_report_that_was_written_twice() -> None:
    report = encode_report({}, b'"first"')
    assert split_report(report) == ({}, b'"first"')
    assert split_report(encode_report({}, b'"2"') + report[-2:]) == (None, b"")


def test_receive_result_reads_the_header_of_a_file_of_any_length() -> None:
    descriptor = result_file.open_result_file()
    os.ftruncate(descriptor, 1 << 45)
    assert receive_result(lambda: descriptor) == bytes(HEADER_LENGTH)


@pytest.mark.parametrize("garbage", [b"x\n", b"x" * 100, b"\xf5\xc7\x91\xfe\x02\0\0\0??"])
def test_channel_closes_at_bytes_of_another_origin(garbage) -> None:
    ours, theirs = socket_pair()
    end = Channel(theirs, blocking=False)
    other = Channel(ours, blocking=False)
    other.put(1)
    other.flush()
    ours.send(garbage)
    other.put("never decoded")
    other.flush()
    assert end.get() == [1]
    with pytest.raises(ChannelClosedError):
        end.get()
    assert end.is_broken
    with pytest.raises(ChannelClosedError):
        other.get()
    end.close()
    other.close()


STREAM = """
class Stream:
    def __init__(self, error): self.error = error
    def write(self, text): return len(text)
    def flush(self): raise self.error
"""


@modes
@pytest.mark.parametrize("error", ["TypeError('x')", "RuntimeError('x')", "SystemExit(4)", "KeyboardInterrupt()"])
def test_result_is_reported_whatever_the_flush_of_a_stream_raises(worker, mode, error) -> None:
    (event,) = run(worker, f"sys.stdout = sys.stderr = Stream({error}); return 8", *mode, before=STREAM)
    assert (event["event_type"], event["result"]) == ("task_completed", 8)


@modes
def test_result_is_reported_without_standard_streams(worker, mode) -> None:
    (event,) = run(worker, "del sys.stdout, sys.stderr; return 8", *mode)
    assert (event["event_type"], event["result"]) == ("task_completed", 8)


@modes
def test_limit_on_the_size_of_files_is_no_failure_of_the_worker(worker, mode) -> None:
    body = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); return 'x' * 40_000"
    (event,) = run(worker, body, *mode)
    reason = event.get("cause", "") + event.get("exception", "")
    assert event["event_type"] == "task_completed" or "File too large (EFBIG)" in reason


FORKING = """
class Stream:
    def write(self, text): return len(text)
    def flush(self):
        if os.fork(): time.sleep(0.2)
class Result(dict):
    def items(self):
        child = os.fork()
        if not child: return [("b", "longer than the other result" * 9)]
        os.waitpid(child, 0)
        return [("a", {1})]
"""


@modes
@pytest.mark.parametrize(
    ("body", "result"), [("sys.stdout = Stream(); return 8", 8), ("return Result(a={1})", {"a": [1]})]
)
def test_fork_in_an_object_of_the_task_changes_no_report(worker, mode, body, result) -> None:
    (event,) = run(worker, f"{body}", *mode, before=FORKING)
    assert (event["event_type"], event["result"]) == ("task_completed", result)


@modes
def test_exit_whose_code_cannot_be_read_has_code_1(worker, mode) -> None:
    before = "import sys\nclass Exit(SystemExit):\n    code = property(lambda self: 1 / 0)"
    (event,) = run(worker, "raise Exit()", *mode, before=before)
    assert (event["event_type"], event["exit_code"]) == ("task_exited", 1)


META = """
class Meta(type):
    @property
    def __name__(cls): raise ValueError("no name")
class BadError(Exception, metaclass=Meta): pass
"""


@modes
def test_exception_whose_class_has_no_readable_name_is_an_exception_of_the_task(worker, mode) -> None:
    (event,) = run(worker, "raise BadError('seventeen')", *mode, before=META)
    assert (event["event_type"], event["exception_type"], event["exception"]) == (
        "task_exception",
        "BadError",
        "seventeen",
    )


def test_every_event_line_is_valid(worker) -> None:
    run(worker, FORKS.format(child="return 'child' * 9"))
    lines = (worker.folder / "events.log").read_text().splitlines()
    assert all(json.loads(line)["event_type"] for line in lines)


FORGER = """
import sys
def forge(*messages):
    frame = sys._getframe()
    while frame.f_code.co_name != "run_many":
        frame = frame.f_back
    end, number = frame.f_locals["end"], frame.f_locals["assignment"].number
    for message in messages:
        end.put(tuple(number if field == "N" else field for field in message) if type(message) is tuple else message)
    end.flush()
    time.sleep(0.3)
"""
FORGED = [
    "()",
    "('N',)",
    "5",
    "[1]",
    "('N', 0.1, False, b'', b'', 1, 2)",
    "(True, 0.1, False, b'', b'')",
    "('a', 0.1, False, b'', b'')",
    "([], 0.1, False, b'', b'')",
    "(10**30, 0.1, False, b'', b'')",
    "('N', 'x', False, b'', b'')",
    "('N', None, False, b'', b'')",
    "('N', True, False, b'', b'')",
    "('N', 0.1, 'zz', b'', b'')",
    "('N', 0.1, False, 'x', b'')",
    "('N', 0.1, False, b'z' * 5_000_000, b'')",
    "('N', 0.1, False, b'', None)",
    "('N', 0.1, False, b'', 5)",
    "('N', 0.1, False, b'', 'text')",
]
DAMAGED = "the report of the task is damaged: the task wrote to a descriptor of the worker"


@pytest.mark.parametrize("message", FORGED)
def test_message_of_a_task_that_is_no_report_affects_that_task_only(worker, message) -> None:
    (event,) = run(worker, f"forge({message}); return 8", "--reuse-processes", "10", before=FORGER, tasks=4)
    assert (event["event_type"], event.get("cause")) == ("task_exited", DAMAGED)


@pytest.mark.parametrize("content", [r"b''", r"b'{}'", r"b'\xff' * 50"])
def test_report_of_other_bytes_is_damaged(worker, content) -> None:
    body = f"forge(('N', 0.1, False, b'', {content})); return 8"
    (event,) = run(worker, body, "--reuse-processes", "10", before=FORGER, tasks=4)
    assert event["event_type"] == "task_exited"


REPORT = "(2).to_bytes(8, 'little') + bytes(8) + b'17'"


@pytest.mark.parametrize("slots", ["1", "2"])
@pytest.mark.parametrize("count", [1, 50])
def test_second_report_of_a_task_is_not_charged_to_the_next_task(worker, count, slots) -> None:
    body = f"forge(*[('N', 0.0, False, b'', {REPORT})] * {count}); return 8"
    options = ("--reuse-processes", "10", "--num-simultaneous-tasks", slots)
    (event,) = run(worker, body, *options, before=FORGER, tasks=5)
    assert (event["event_type"], event["result"]) == ("task_completed", 17)


def test_report_about_an_earlier_task_fails_the_task_that_sends_it(worker) -> None:
    body = "forge((worker_data.earlier, 0.1, False, b'', b'')); return 8"
    before = (
        FORGER
        + """
def f(task_id, data, worker_data):
    frame = sys._getframe()
    while frame.f_code.co_name != "run_many":
        frame = frame.f_back
    worker_data.earlier = frame.f_locals["assignment"].number - 1
    return inner(task_id, data, worker_data)
"""
    )
    code = (
        f"{before}\ndef inner(task_id, data, worker_data):\n    if task_id == 'task-1':\n        {body}\n    return 7\n"
    )
    run_program(worker, code, "--reuse-processes", "10", "--num-simultaneous-tasks", "1", tasks=4)
    ends = {event["task_id"]: event["event_type"] for event in worker.events(*ENDS)}
    assert ends == {
        "task-0": "task_completed",
        "task-1": "task_exited",
        "task-2": "task_completed",
        "task-3": "task_completed",
    }


CLOCKS = """
import json, marshal, gc
def freeze(value, *modules):
    for module in modules:
        for name in [name for name in dir(module) if callable(getattr(module, name)) and name[0] != "_"]:
            setattr(module, name, lambda *args, **kwargs: value)
"""
SECONDS = ["float('nan')", "float('inf')", "1e300", "-1e300", "-2208988800.0", "10**400", "0.0", "'x'", "None"]


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "10")], ids=["fork", "reuse"])
@pytest.mark.parametrize("value", SECONDS)
def test_clock_that_a_task_replaces_changes_no_time_of_an_event(worker, options, value) -> None:
    start = time.time()
    (event,) = run(worker, f"freeze({value}, time); return 8", *options, before=CLOCKS)
    assert (event["event_type"], event["result"]) == ("task_completed", 8)
    for each in worker.events("task_started", *ENDS):
        assert 0.0 <= each.get("elapsed_time", 0.0) <= time.time() - start
        assert start - 1 <= datetime.fromisoformat(each["timestamp"]).timestamp() <= time.time() + 1


@pytest.mark.parametrize("value", ["float('nan')", "1e300", "0.0", "None"])
def test_clock_that_worker_init_replaces_changes_no_time_of_an_event(worker, value) -> None:
    start = time.time()
    code = CLOCKS + INIT.format(init=f"freeze({value}, time)", body="pass")
    finished = run_program(worker, code, tasks=3)
    events = worker.events("task_started", *ENDS)
    assert [event.get("result") for event in events if "elapsed_time" in event] == [7] * 3, finished.log
    for each in events:
        assert 0.0 <= each.get("elapsed_time", 0.0) <= time.time() - start
        assert start - 1 <= datetime.fromisoformat(each["timestamp"]).timestamp() <= time.time() + 1


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "10")], ids=["fork", "reuse"])
def test_functions_that_a_task_replaces_are_not_those_of_its_report(worker, options) -> None:
    body = "freeze(None, os, json, marshal, gc, time); return {'a': ['x' * 40_000]}"
    (event,) = run(worker, body, *options, before=CLOCKS)
    assert (event["event_type"], event["result"]) == ("task_completed", {"a": ["x" * 40_000]})


@pytest.mark.parametrize(
    "seconds", [float("nan"), float("inf"), float("-inf"), -1e18, -0.001, 1e300, 2e9, 1.7976931348623157e308]
)
def test_pool_measures_seconds_itself_that_no_clock_shows(seconds) -> None:
    loop, measured = EventLoop(), []
    pool = ProcessPool(
        loop,
        slots=1,
        reuse=2,
        start_process=lambda slot: None,
        on_started=lambda attempt: None,
        on_ended=lambda *fields: measured.append(fields[4]),
        kill=lambda pid: None,
    )
    ours, theirs = socket_pair()
    end = Channel(theirs, blocking=False)
    pool.submit(RunningAttempt(PendingAttempt("a", {}), 0, ""))
    pool.connect(0, 1000, ours.detach())
    end.put((0, seconds, False, b"", b""))
    end.flush()
    loop.run_once(1.0)
    assert len(measured) == 1
    assert 0.0 <= measured[0] <= 60.0
    pool.close()
    end.close()


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_json_values = _scalars | st.lists(_scalars, max_size=3) | st.dictionaries(st.text(), _scalars, max_size=2)
_FIELDS = [
    *("error", "message", "trace", "own_failure", "kinds", "errno", "exited", "exit_code", "retry"),
    *("reason", "after", "notice", "warning", "result_address", "result_bytes", "result_pickle", "result_repr"),
]


@given(head=st.dictionaries(st.sampled_from([*_FIELDS, "other"]), _json_values, min_size=1))
def test_read_outcome_of_any_head_has_fields_for_events(head) -> None:
    outcome = read_outcome(status=0, content=encode_report(head, b"7"), cause="")
    text = json.dumps(dict(outcome.details), allow_nan=False, ensure_ascii=False).encode()
    assert json.loads(text) == outcome.details
    assert outcome.after is None or 0 <= outcome.after < 1e19
    list(end_lines(Completion(Report(()), "task", outcome, False), 1, 0.5, is_alone=True))


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "fifo"])
def test_receive_result_of_another_file_is_damaged(tmp_path, path) -> None:
    if path == "fifo":
        os.mkfifo(tmp_path / path)
    descriptor = os.open(tmp_path / path, os.O_RDONLY | os.O_NONBLOCK)
    assert split_report(receive_result(lambda: descriptor)) == (None, b"")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files on disk may be compressed")
def test_receive_result_reads_no_file_that_was_only_extended() -> None:
    descriptor, size = result_file.open_result_file(), 1 << 45
    os.pwrite(descriptor, (size - HEADER_LENGTH).to_bytes(8, "little"), 0)
    os.ftruncate(descriptor, size)
    assert len(receive_result(lambda: descriptor)) == HEADER_LENGTH


SCRATCH = """
def f(task_id, data, worker_data):
    if task_id == 'task-1':
        {body}
    Path(worker_data.scratch_dir, "file").write_text("x")
    folders = (os.path.dirname(worker_data.scratch_dir), worker_data.scratch_dir)
    return [oct(os.stat(folder).st_mode & 0o777) for folder in folders]
os.umask({umask})
"""


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "10")], ids=["fork", "reuse"])
@pytest.mark.parametrize("umask", [0o777, 0])
@pytest.mark.parametrize("is_of_task", [True, False])
def test_umask_does_not_decide_who_can_use_scratch_folders(worker, options, umask, is_of_task) -> None:
    body = f"os.umask({umask})" if is_of_task else "pass"
    code = SCRATCH.format(body=body, umask=0o022 if is_of_task else umask)
    finished = run_program(worker, code, "--num-simultaneous-tasks", "1", *options, tasks=4)
    assert [event.get("result") for event in worker.events(*ENDS)] == [["0o700"] * 2] * 4, finished.log
    assert worker.nothing_is_left()


@pytest.mark.parametrize("damage", ["shutil.rmtree(parent)", "os.chmod(parent, 0)", "os.chmod(parent, 0o777)"])
def test_scratch_parent_that_a_task_damages_is_restored(tmp_path, damage) -> None:
    parent = tmp_path / "parent"
    data = WorkerData()
    data._scratch = str(parent / "1")
    create_private_folder(str(parent))
    exec(damage, {"os": os, "shutil": shutil, "parent": parent})
    assert Path(data.scratch_dir).stat().st_mode & 0o777 == 0o700


def test_scratch_folder_that_cannot_be_removed_is_reported_once(tmp_path, monkeypatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        if not options.get("ignore_errors"):
            raise PermissionError(1, "Operation not permitted", str(tmp_path / "root/0/kept"))

    monkeypatch.setattr(shutil, "rmtree", fail)
    warnings: list[str] = []
    cleaner = ScratchCleaner(str(tmp_path / "root"), warnings.append)
    cleaner.create()
    for number in range(2):
        (tmp_path / "root" / str(number)).mkdir()
        cleaner.remove(str(tmp_path / "root" / str(number)))
    cleaner.close()
    (warning,) = warnings
    folder = tmp_path / "root/0"
    assert warning == (
        f"Cannot remove the scratch folder {folder}: Operation not permitted (EPERM): {folder}/kept; remove it by hand"
    )


INIT = """
import signal, sys
def init(worker_data):
    {init}
def f(task_id, data, worker_data):
    if task_id == 'task-1':
        {body}
    return 7
if __name__ == "__main__":
    Worker(f, worker_init=init, args=sys.argv[1:]).run()
    sys.exit()
"""
_ALL = "for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: "


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "10")], ids=["fork", "reuse"])
@pytest.mark.parametrize(
    "init",
    [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "signal.signal(signal.SIGCHLD, signal.SIG_DFL)",
        _ALL + "signal.signal(number, signal.SIG_IGN)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        "signal.set_wakeup_fd(-1)",
    ],
)
def test_worker_init_that_changes_signals_keeps_no_worker_from_its_tasks(worker, options, init) -> None:
    body = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)"
    finished = run_program(worker, INIT.format(init=init, body=body), *options, "--max-attempts", "1", tasks=3)
    ends = {event["task_id"]: event.get("result", event.get("signal")) for event in worker.events(*ENDS)}
    assert ends == {"task-0": 7, "task-1": "SIGTERM", "task-2": 7}, finished.log
    changed = init.startswith("signal.signal") or "SIG_IGN" in init
    assert finished.log.count("worker_init has changed how SIGCHLD is handled") == changed


def test_server_reports_ends_of_processes_that_other_code_has_waited_for(worker) -> None:
    before = """
import signal, sys
from cloud_tasks.worker.common import process_tree
def reap(heads):
    os.waitpid(-1, 0)
    raise ChildProcessError
"""
    code = before + INIT.format(init="process_tree.reap = reap", body="os._exit(3)")
    run_program(worker, code, "--max-losses", "0", "--num-simultaneous-tasks", "1", tasks=3)
    ends = {event["task_id"]: event.get("result", event.get("cause")) for event in worker.events(*ENDS)}
    assert (ends["task-0"], ends["task-2"]) == (7, 7)
    assert "how the process ended is unknown" in ends["task-1"]


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "10")], ids=["fork", "reuse"])
def test_signals_of_a_task_to_its_parent_interrupt_no_task(worker, options) -> None:
    body = f"""
import signal
{_ALL}
    os.kill(os.getppid(), number)
    time.sleep(0.005)
return 8
"""
    (event,) = run(worker, body, *options, tasks=6)
    assert (event["event_type"], event["result"]) == ("task_completed", 8)
    assert worker.events("task_released", "non_fatal_exception") == []


@modes
def test_signals_of_a_task_are_those_that_python_starts_with(worker, mode) -> None:
    code = """
import signal
def f(task_id, data, worker_data):
    handlers = [(n, signal.getsignal(n)) for n in signal.valid_signals()]
    changed = {int(n) for n, handler in handlers if handler not in (signal.SIG_DFL, None)}
    return sorted(changed), sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    run_program(worker, code, *mode, tasks=2)
    expected = [sorted({signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ}), []]
    assert [event["result"] for event in worker.events(*ENDS)] == [expected] * 2


def test_worker_in_a_thread_ends_with_one_line(worker) -> None:
    code = """
def f(task_id, data, worker_data): return 7
if __name__ == "__main__":
    import sys
    thread = threading.Thread(target=Worker(f, args=sys.argv[1:]).run)
    thread.start()
    thread.join()
    sys.exit()
"""
    finished = run_program(worker, code)
    assert finished.log == "error: a worker needs the main thread, which receives signals; call run there\n"


def test_worker_init_that_exits_is_given_up_after_five_starts(worker) -> None:
    finished = run_program(worker, INIT.format(init="os._exit(3)", body="pass"), tasks=3)
    assert finished.code == 1
    (fatal,) = worker.events("fatal_exception")
    assert fatal["exception"].startswith("no fork server ran a task in 5 starts")
    assert "worker_init" in fatal["exception"]


@modes
@pytest.mark.parametrize("close", ["os.closerange(3, 256)", "os.closerange(0, 256)"])
def test_report_that_a_task_made_impossible_is_replaced_by_its_cause(worker, mode, close) -> None:
    (event,) = run(worker, f"{close}; return 8", *mode)
    assert (event["event_type"], event["exit_code"]) == ("task_exited", 0)
    problem = "the task has closed or replaced a descriptor of its worker"
    assert event["cause"] == f"cannot report the result: Bad file descriptor (EBADF); {problem}"


@pytest.mark.parametrize("size", [0, 8])
def test_limit_of_file_sizes_is_the_cause_of_a_missing_report(size) -> None:
    code = f"""
import os, resource
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.task_process import result_file
result_file._lift_file_size_limit = lambda: False
flags, descriptor = SharedFlags(), result_file.open_result_file()
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
result_file.report_again(descriptor, b"x" * 20, OSError(27, "too large"), flags, 3, 5)
print(*(flags.take_report_error(slot, 5) for slot in (3, 3, 2)), os.fstat(descriptor).st_size)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert printed[:3] == ["27", "0", "0"]
    outcome = read_outcome(status=0, content=b"", cause="", report_error=errno.EFBIG)
    assert outcome.details["cause"] == (
        "cannot report the result: File too large (EFBIG); the task has limited the size of its files (RLIMIT_FSIZE)"
    )


@pytest.mark.parametrize("number", [errno.EBADF, errno.EFBIG, errno.EIO])
def test_process_that_was_killed_has_its_signal_as_the_cause(number) -> None:
    assert read_outcome(status=9, content=b"", cause="", report_error=number).details["signal"] == "SIGKILL"


@modes
@pytest.mark.parametrize("captures", [(), ("--capture-output",)], ids=["own output", "captured"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_that_a_task_redirects_is_no_failure_of_the_worker(worker, mode, captures, stream) -> None:
    number = {"stdout": 1, "stderr": 2}[stream]
    body = f"""
import sys
os.dup2(os.open("/dev/full", os.O_WRONLY), {number})
print("a line", file=sys.{stream}, flush=True)
"""
    (event,) = run(worker, body, *mode, *captures)
    assert (event["event_type"], event["exception_type"]) == ("task_exception", "OSError")
    assert event["exception"] == "[Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SIGXCPU", "the task exceeded a limit of CPU time (RLIMIT_CPU)"),
        ("SIGSYS", "the task called a function of the system that it may not call (seccomp)"),
        ("SIGXFSZ", "the task exceeded a limit of the size of files (RLIMIT_FSIZE)"),
    ],
)
def test_signal_of_a_limit_is_not_taken_for_a_lack_of_memory(name, text) -> None:
    assert read_outcome(status=int(signal.Signals[name]), content=b"", cause="").details["cause"] == text


DEEP = """
import sys
sys.setrecursionlimit(10**9)
value = []
for _ in range(1_000_000): value = [value]
"""


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "10")], ids=["fork", "reuse"])
@pytest.mark.parametrize("end", ["return value", "return True, value", "raise ValueError(value)"])
def test_recursion_limit_of_a_task_crashes_no_encoding(worker, options, end) -> None:
    (event,) = run(worker, DEEP + end, *options, "--max-attempts", "1")
    assert event["event_type"] in ("task_completed", "task_exception", "task_dead")
    assert "SIGSEGV" not in str(event)


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "10")], ids=["fork", "reuse"])
def test_higher_recursion_limit_changes_no_result(worker, options) -> None:
    body = "import sys; sys.setrecursionlimit(10**6); return {'a': [1, None, {'b': 'x'}]}"
    (event,) = run(worker, body, *options)
    assert (event["event_type"], event["result"]) == ("task_completed", {"a": [1, None, {"b": "x"}]})


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self/fd/0", "fifo", "sparse"])
def test_traceback_reads_regular_files_only(worker, path) -> None:
    os.mkfifo(worker.folder / "fifo")
    with (worker.folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (event,) = run(worker, f"exec(compile('1 / 0', {path!r}, 'exec'))", "--reuse-processes", "10")
    assert event["exception_type"] == "ZeroDivisionError"
    assert f'File "{path}", line 1' in event["stack_trace"]


def test_result_that_a_thread_changes_meanwhile_is_reported_as_such() -> None:
    class Changing(dict[str, int]):
        def __init__(self, times: int) -> None:
            super().__init__(a=1, b=2)
            self.times = times

        def items(self) -> Any:
            self.times -= 1
            if self.times >= 0:
                raise RuntimeError("dictionary changed size during iteration")
            return super().items()

        def __reduce__(self) -> Any:
            return dict, ()

    assignment = Assignment(0, 0, "a", 1, {}, "", {})
    assert report_result(Changing(2), "", assignment, (None, None), retry=False) == ({}, b'{"a":1,"b":2}')
    head, _ = report_result(Changing(99), "", assignment, (None, None), retry=False)
    assert "since another thread changed it during its conversion" in head["notice"][1]
