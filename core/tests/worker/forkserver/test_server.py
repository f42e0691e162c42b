"""The template by itself: what waits for a slot has a process already, and has not begun."""

from __future__ import annotations

import errno
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

pytestmark = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="only Linux forks ahead")


@attrs.define
class Template:
    """One with one slot, whose tasks note that they began and wait for a file with their name."""

    folder: Path
    pid: int
    channel: Channel
    messages: list[Any] = attrs.field(factory=list)

    def run(self, *names: str) -> None:
        for number, name in enumerate(names):
            self.channel.put(encode(RunAttempt(number, name, 1, {}, str(self.folder / "scratch"))))
        self.channel.flush()

    def let_go(self, *names: str) -> None:
        for name in names:
            (self.folder / name).touch()

    def children(self) -> list[int]:
        return process_tree.children_of(self.pid)

    def wait_for(self, kind: type, count: int = 1) -> list[Any]:
        while len(found := [message for message in self.messages if type(message) is kind]) < count:
            self.messages += map(decode, self.channel.get())
        return found

    def began(self) -> list[str]:
        path = self.folder / "began"
        return path.read_text().split() if path.exists() else []

    def logs(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "logs").iterdir())


def only_two_processes(data: WorkerData) -> None:
    """No more than two are forked at a time, where `ONLY_TWO` is set."""
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
def template(tmp_path) -> Iterator[Template]:
    def task(name: str, fields: dict[str, Any], data: WorkerData) -> Any:
        with (tmp_path / "began").open("a") as file:
            file.write(f"{name}\n")
        wait_until(lambda: (tmp_path / name).exists())
        return False, [name, data.slot, os.environ["OF_THE_SLOT"]]

    (tmp_path / "logs").mkdir()
    process_tree.prepare()
    ours, theirs = socket_pair()
    data = WorkerData()
    order = ForkserverConfig(
        task,
        data,
        on_init=only_two_processes,
        capture=True,
        log_dir=str(tmp_path / "logs"),
        limits=(None, None),
        program=Program(data._flags),
        environments=[{"OF_THE_SLOT": "first"}],
    )
    pid = os.fork()
    if pid == 0:
        ours.close()
        run_forkserver(theirs, order)
    theirs.close()
    made = Template(tmp_path, pid, Channel(ours, blocking=True))
    made.wait_for(Ready)
    yield made
    made.channel.close()
    os.waitpid(pid, 0)


def test_what_waits_has_its_process_and_begins_when_there_is_a_slot(template) -> None:
    template.run("a", "b", "c")
    wait_until(lambda: len(template.children()) == 3)
    assert len(template.wait_for(AttemptStarted)) == 1
    wait_until(template.began)
    assert template.began() == ["a"]
    template.let_go("a")
    template.wait_for(AttemptStarted, 2)
    wait_until(lambda: template.began() == ["a", "b"])
    template.let_go("b", "c")
    ended = template.wait_for(AttemptEnded, 3)
    assert [(number, status) for number, status, *_ in ended] == [(0, 0), (1, 0), (2, 0)]
    assert [(number, slot) for number, slot, *_ in template.wait_for(AttemptStarted, 3)] == [(0, 0), (1, 0), (2, 0)]
    assert [content[10:] for *_, content, _ in ended] == [
        b'["a",0,"first"]',
        b'["b",0,"first"]',
        b'["c",0,"first"]',
    ]


def test_a_process_that_dies_before_its_task_began_costs_it_nothing(template) -> None:
    template.run("a", "b", "c")
    wait_until(lambda: len(template.children()) == 3)
    running = template.wait_for(AttemptStarted)[0].pid
    for pid in template.children():
        if pid != running:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: template.children() == [running])
    template.let_go("a", "b", "c")
    assert [status for _, status, *_ in template.wait_for(AttemptEnded, 3)] == [0, 0, 0]
    assert template.began() == ["a", "b", "c"]


@pytest.mark.parametrize(("limit", "count"), [("ONLY_TWO", 2), ("NO_GATE", 1)])
def test_where_there_may_be_no_more_processes_or_files_slots_come_first(monkeypatch, request, limit, count) -> None:
    monkeypatch.setenv(limit, "1")
    template = request.getfixturevalue("template")
    template.run("a", "b", "c", "d")
    wait_until(lambda: len(template.children()) == count)
    template.let_go("a", "b", "c", "d")
    assert [status for _, status, *_ in template.wait_for(AttemptEnded, 4)] == [0, 0, 0, 0]
    assert template.began() == ["a", "b", "c", "d"]


def test_what_is_taken_back_leaves_no_process_and_no_file(template) -> None:
    template.run("a", "b", "c")
    wait_until(lambda: len(template.children()) == 3)
    running = template.wait_for(AttemptStarted)[0].pid
    template.channel.put(encode(Withdraw()))
    template.channel.flush()
    assert template.wait_for(Withdrawn) == [Withdrawn([1, 2])]
    wait_until(lambda: template.children() == [running])
    assert template.logs() == ["a.1.log"]
    template.let_go("a")
    template.wait_for(AttemptEnded)
    template.run("d")
    template.let_go("d")
    assert template.wait_for(AttemptEnded, 2)[1].content.endswith(b'["d",0,"first"]')
    assert template.began() == ["a", "d"]


def test_a_template_that_is_told_to_quit_does_not_begin_what_waits(template) -> None:
    template.run("a", "b")
    wait_until(lambda: len(template.children()) == 2)
    template.channel.put(encode(Quit()))
    template.channel.flush()
    wait_until(lambda: len(template.children()) == 1)
    template.let_go("a", "b")
    template.wait_for(AttemptEnded)
    assert template.began() == ["a"]
