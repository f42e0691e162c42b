"""The supervisor with a simulated fork server, message by message."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from worker_harness import wait_until

from cloud_tasks import exit_codes
from cloud_tasks.worker.common.ipc import Channel, socket_pair
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt
from cloud_tasks.worker.forkserver.protocol import (
    AttemptEnded,
    AttemptStarted,
    Ready,
    RunAttempt,
    Withdraw,
    Withdrawn,
    decode,
    encode,
)
from cloud_tasks.worker.forkserver.zygote import START_FORKSERVER
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.supervisor.event_loop import EventLoop
from cloud_tasks.worker.supervisor.execution.completion import CompletionHandler
from cloud_tasks.worker.supervisor.execution.retry_policy import RetryRules
from cloud_tasks.worker.supervisor.parts import SupervisorParts
from cloud_tasks.worker.supervisor.settings import SupervisorSettings
from cloud_tasks.worker.supervisor.supervisor import Supervisor
from cloud_tasks.worker.task_process.report_format import encode_report

OnStart = Callable[[Supervisor, EventLoop], None]
COMPLETED = encode_report({}, b"null")


class Consumer:
    """A consumer with a number of tasks."""

    exhausted, failure, expected, due_at = False, "", None, None
    is_refused = False

    def __init__(self, count: int) -> None:
        self._works = [PendingAttempt(f"task-{number}", {}) for number in range(count)]

    def start(self) -> None:
        pass

    def request(self, idle_slots: int, *, mean_seconds: float | None) -> None:
        pass

    def get(self) -> PendingAttempt | None:
        return self._works.pop(0) if self._works else None

    def requeue(self, work: PendingAttempt, delay: float) -> bool:
        return True

    def take_surplus(self, mean_seconds: float) -> Sequence[PendingAttempt]:
        return ()

    def mark_leases_lost(self, lease_ids: Sequence[str]) -> None:
        pass

    def stop(self) -> Sequence[PendingAttempt]:
        return ()

    def close(self) -> None:
        pass


def fork_supervisor(flags: SharedFlags, zygote: Any, *, tasks: int, on_start: OnStart) -> int:
    """Run a supervisor with one slot in a process of its own; return the pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        log, events = Log(verbose=False), EventEncoder("host")
        reporter: Any = SimpleNamespace(put=lambda report: None, is_clogged=False, problem="")
        completion = CompletionHandler(RetryRules((), 1, 1), events, reporter, counts_deliveries=None)
        loop = EventLoop()
        supervisor = Supervisor(
            SupervisorSettings(1, 60.0, 60.0, 1.0, 0.0, None, None, "/nowhere", False),
            SupervisorParts(loop, zygote, Consumer(tasks), reporter, completion, events, flags, log),
        )
        on_start(supervisor, loop)
        os._exit(supervisor.run())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)


class ForkServer:
    """The other ends of a supervisor's sockets."""

    def __init__(self, zygote: Any) -> None:
        self._zygote = Channel(zygote, blocking=True)
        assert self._zygote.get()[0][0] == START_FORKSERVER
        ours, theirs = socket_pair()
        self._channel = Channel(ours, blocking=True)
        self._zygote.put_with_descriptor((START_FORKSERVER, 0, 0), theirs.fileno())
        theirs.close()
        self._received: list[Any] = []

    def close(self) -> None:
        self._channel.close()
        self._zygote.close()

    def send(self, *messages: Any) -> None:
        for message in messages:
            self._channel.put(encode(message))
        self._channel.flush()

    def receive(self, kind: type) -> Any:
        """Return the next message of this kind; those before it are dropped."""
        while True:
            while self._received:
                message = self._received.pop(0)
                if type(message) is kind:
                    return message
            readable = select.poll()
            readable.register(self._channel.fileno(), select.POLLIN)
            assert readable.poll(60_000)
            self._received += map(decode, self._channel.get())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def check_order(end_supervisor: Callable[[int], None], *, on_start: OnStart, code: int) -> SharedFlags:
    """Check that an ended supervisor withdraws waiting attempts, and sets its flags only after the answer."""
    flags, (ours, theirs) = SharedFlags(), socket_pair()
    pid = fork_supervisor(flags, theirs, tasks=4, on_start=on_start)
    theirs.close()
    with contextlib.ExitStack() as stack:
        stack.callback(kill, pid)
        forkserver = stack.enter_context(contextlib.closing(ForkServer(ours)))
        forkserver.send(Ready(""))
        assert forkserver.receive(RunAttempt).number == 0
        now = time.monotonic()
        # After a task of a millisecond, the next ones are prefetched.
        forkserver.send(AttemptStarted(0, 0, 1, now), AttemptEnded(0, 0, now + 0.001, COMPLETED, b""))
        for number in (1, 2, 3):
            assert forkserver.receive(RunAttempt).number == number
        forkserver.send(AttemptStarted(1, 0, 1, time.monotonic()))
        end_supervisor(pid)
        forkserver.receive(Withdraw)
        assert (flags.termination_notice, flags.shutdown_request) == (False, False)
        forkserver.send(Withdrawn([2, 3]))
        wait_until(lambda: flags.shutdown_request)
        forkserver.send(AttemptEnded(1, 0, time.monotonic(), COMPLETED, b""))
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        assert ended.si_status == code
    return flags


def test_supervisor_sets_the_shutdown_flag_after_waiting_attempts_are_withdrawn() -> None:
    flags = check_order(lambda pid: os.kill(pid, signal.SIGTERM), on_start=lambda *_: None, code=exit_codes.TERMINATED)
    assert not flags.termination_notice


def test_supervisor_sets_the_termination_flag_after_waiting_attempts_are_withdrawn() -> None:
    def on_start(supervisor: Supervisor, loop: EventLoop) -> None:
        def notice(number: int, frame: Any) -> None:
            loop.post(lambda: supervisor.on_termination_notice("the test ends", None))

        signal.signal(signal.SIGUSR1, notice)

    flags = check_order(lambda pid: os.kill(pid, signal.SIGUSR1), on_start=on_start, code=exit_codes.COMPLETED)
    assert flags.termination_notice
