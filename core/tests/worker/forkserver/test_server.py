"""The fork server by itself: pre-forked children wait for a slot without starting their tasks."""

from __future__ import annotations

import errno
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from worker_harness import wait_until

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, socket_pair
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.forkserver.config import ForkserverConfig
from cloud_tasks.worker.forkserver.protocol import (
    AttemptEnded,
    AttemptStarted,
    Quit,
    Ready,
    RunAttempt,
    Withdraw,
    Withdrawn,
    decode,
    encode,
)
from cloud_tasks.worker.forkserver.server import run_forkserver
from cloud_tasks.worker.forkserver.spawn import Program
from cloud_tasks.worker.task_process.report_format import split_report

pytestmark = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="pre-forking needs eventfd")


@attrs.define
class ForkServer:
    """A fork server with one slot, whose tasks note their start and wait for a file with their name."""

    folder: Path
    pid: int
    channel: Channel
    messages: list[Any] = attrs.field(factory=list)

    def run(self, *names: str) -> None:
        for number, name in enumerate(names):
            self.channel.put(encode(RunAttempt(number, name, 1, {}, str(self.folder / "scratch"))))
        self.channel.flush()

    def finish(self, *names: str) -> None:
        for name in names:
            (self.folder / name).touch()

    def children(self) -> list[int]:
        return process_tree.children_of(self.pid)

    def result_modes(self) -> list[int]:
        """Return how the fork server has opened the result files."""
        files = Path(f"/proc/{self.pid}/fd")
        numbers = [entry.name for entry in files.iterdir() if "cloud-tasks-result" in os.readlink(entry)]
        flags = [(files.parent / "fdinfo" / number).read_text().split()[3] for number in numbers]
        return [int(octal, 8) & os.O_ACCMODE for octal in flags]

    def wait_for(self, kind: type, count: int = 1) -> list[Any]:
        while len(found := [message for message in self.messages if type(message) is kind]) < count:
            self.messages += map(decode, self.channel.get())
        return found

    def started(self) -> list[str]:
        path = self.folder / "started"
        return path.read_text().split() if path.exists() else []

    def logs(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "logs").iterdir())


def limit_resources(data: WorkerData) -> None:
    """Limit children to two if `ONLY_TWO` is set, and allow no eventfd if `NO_GATE` is."""
    fork = os.fork

    def limited() -> int:
        if os.environ.get("ONLY_TWO") and len(process_tree.children_of(os.getpid())) >= 2:
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        return fork()

    def none(initval: int, flags: int = 0) -> int:
        raise OSError(errno.EMFILE, "no more open files")

    os.fork = limited
    if os.environ.get("NO_GATE"):
        os.eventfd = none


@pytest.fixture
def forkserver(tmp_path) -> Iterator[ForkServer]:
    def task(name: str, fields: dict[str, Any], data: WorkerData) -> Any:
        with (tmp_path / "started").open("a") as file:
            file.write(f"{name}\n")
        wait_until(lambda: (tmp_path / name).exists())
        return False, [name, data.slot, os.environ["OF_THE_SLOT"]]

    (tmp_path / "logs").mkdir()
    process_tree.prepare()
    ours, theirs = socket_pair()
    data = WorkerData()
    config = ForkserverConfig(
        task,
        data,
        on_init=limit_resources,
        capture=True,
        log_dir=str(tmp_path / "logs"),
        limits=(None, None),
        program=Program(data._flags),
        environments=[{"OF_THE_SLOT": "first"}],
    )
    # Garbage of other tests, such as a client of gRPC, would wait for its thread when a child collects it.
    gc.collect()
    pid = os.fork()
    if pid == 0:
        ours.close()
        run_forkserver(theirs, config)
    theirs.close()
    server = ForkServer(tmp_path, pid, Channel(ours, blocking=True))
    server.wait_for(Ready)
    yield server
    server.channel.close()
    os.waitpid(pid, 0)


def test_prefork_starts_waiting_attempts_when_a_slot_is_free(forkserver) -> None:
    forkserver.run("a", "b", "c")
    wait_until(lambda: len(forkserver.children()) == 3)
    assert len(forkserver.wait_for(AttemptStarted)) == 1
    wait_until(forkserver.started)
    assert forkserver.started() == ["a"]
    forkserver.finish("a")
    forkserver.wait_for(AttemptStarted, 2)
    wait_until(lambda: forkserver.started() == ["a", "b"])
    forkserver.finish("b", "c")
    ended = forkserver.wait_for(AttemptEnded, 3)
    assert [(number, status) for number, status, *_ in ended] == [(0, 0), (1, 0), (2, 0)]
    assert [(number, slot) for number, slot, *_ in forkserver.wait_for(AttemptStarted, 3)] == [(0, 0), (1, 0), (2, 0)]
    assert [split_report(content)[1] for *_, content, _ in ended] == [
        b'["a",0,"first"]',
        b'["b",0,"first"]',
        b'["c",0,"first"]',
    ]


def test_prefork_runs_the_attempt_of_a_child_that_died_at_its_gate(forkserver) -> None:
    forkserver.run("a", "b", "c")
    wait_until(lambda: len(forkserver.children()) == 3)
    running = forkserver.wait_for(AttemptStarted)[0].pid
    for pid in forkserver.children():
        if pid != running:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: forkserver.children() == [running])
    forkserver.finish("a", "b", "c")
    assert [status for _, status, *_ in forkserver.wait_for(AttemptEnded, 3)] == [0, 0, 0]
    assert forkserver.started() == ["a", "b", "c"]


@pytest.mark.parametrize(("limit", "count"), [("ONLY_TWO", 2), ("NO_GATE", 1)])
def test_prefork_leaves_scarce_processes_and_files_to_attempts_with_a_slot(monkeypatch, request, limit, count) -> None:
    monkeypatch.setenv(limit, "1")
    forkserver = request.getfixturevalue("forkserver")
    forkserver.run("a", "b", "c", "d")
    wait_until(lambda: len(forkserver.children()) == count)
    forkserver.finish("a", "b", "c", "d")
    assert [status for _, status, *_ in forkserver.wait_for(AttemptEnded, 4)] == [0, 0, 0, 0]
    assert forkserver.started() == ["a", "b", "c", "d"]


def test_fork_makes_the_file_of_a_forked_child_read_only_if_the_next_fork_fails(monkeypatch, request) -> None:
    monkeypatch.setenv("ONLY_TWO", "1")
    forkserver = request.getfixturevalue("forkserver")
    forkserver.run("a", "b", "c")
    wait_until(lambda: len(forkserver.children()) == 2)
    wait_until(lambda: forkserver.result_modes() == [os.O_RDONLY, os.O_RDONLY])
    forkserver.finish("a", "b", "c")
    forkserver.wait_for(AttemptEnded, 3)


def test_prefork_leaves_no_process_and_no_file_of_withdrawn_attempts(forkserver) -> None:
    forkserver.run("a", "b", "c")
    wait_until(lambda: len(forkserver.children()) == 3)
    running = forkserver.wait_for(AttemptStarted)[0].pid
    forkserver.channel.put(encode(Withdraw()))
    forkserver.channel.flush()
    assert forkserver.wait_for(Withdrawn) == [Withdrawn([1, 2])]
    wait_until(lambda: forkserver.children() == [running])
    assert forkserver.logs() == ["a.1.log"]
    forkserver.finish("a")
    forkserver.wait_for(AttemptEnded)
    forkserver.run("d")
    forkserver.finish("d")
    assert forkserver.wait_for(AttemptEnded, 2)[1].content.endswith(b'["d",0,"first"]')
    assert forkserver.started() == ["a", "d"]


def test_forkserver_starts_no_waiting_attempt_after_quit(forkserver) -> None:
    forkserver.run("a", "b")
    wait_until(lambda: len(forkserver.children()) == 2)
    forkserver.channel.put(encode(Quit()))
    forkserver.channel.flush()
    wait_until(lambda: len(forkserver.children()) == 1)
    forkserver.finish("a", "b")
    forkserver.wait_for(AttemptEnded)
    assert forkserver.started() == ["a"]


def _interrupt(*arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("during", ["start", "warm-up"])
def test_forkserver_whose_supervisor_exits_first_reports_no_failure(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    ours, theirs = socket_pair()
    ours.close()
    data = WorkerData()
    config = ForkserverConfig(
        lambda *arguments: None,
        data,
        on_init=None,
        capture=False,
        log_dir=None,
        limits=(None, None),
        program=Program(data._flags),
        environments=[{}],
    )
    if during == "warm-up":
        monkeypatch.setattr("cloud_tasks.worker.forkserver.server.warm_up", _interrupt)
    # Garbage of other tests, such as a client of gRPC, would wait for its thread when a child collects it.
    gc.collect()
    pid = os.fork()
    if pid == 0:
        run_forkserver(theirs, config)
    theirs.close()
    assert os.waitpid(pid, 0)[1] == 0
    assert capfd.readouterr() == ("", "")
