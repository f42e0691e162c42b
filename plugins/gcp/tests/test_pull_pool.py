"""`PullPool`: pulls outlive the callers that started them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import grpc
import pytest
from google.api_core import exceptions as api

from cloud_tasks_gcp.queue.pull_pool import PullPool


@attrs.frozen
class Answer:
    received_messages: Sequence[str]


class Refusal(grpc.RpcError, grpc.Call):
    """Error as gRPC raises it."""

    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__()
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return "refused"

    def initial_metadata(self) -> Any:
        return ()

    def trailing_metadata(self) -> Any:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False


class Call:
    """Running gRPC call that finishes when the test says so."""

    def __init__(self, requested: int) -> None:
        self.requested = requested
        self._callbacks: list[Callable[[Any], None]] = []
        self._answer: Sequence[str] = ()
        self._error: Exception | None = None
        self._planned: Sequence[str] = ()
        self._done = False
        self._cancelled = False

    def answer(self, *messages: str) -> None:
        self._answer = messages
        self._end()

    def fail(self, status: grpc.StatusCode) -> None:
        self._error = Refusal(status)
        self._end()

    def cancel(self) -> None:
        self._cancelled = True
        self._end()

    def _end(self) -> None:
        self._done = True
        for callback in self._callbacks:
            callback(self)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def plan(self, *messages: str) -> None:
        """Answer at the next call of `done`."""
        self._planned = messages

    def done(self) -> bool:
        if self._planned:
            planned, self._planned = self._planned, ()
            self.answer(*planned)
        return self._done

    def cancelled(self) -> bool:
        return self._cancelled

    def exception(self) -> Exception | None:
        return self._error

    def result(self) -> Answer:
        return Answer(self._answer)


class Server:
    """Record of started pulls and returned messages."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.returned: list[str] = []
        self.started = threading.Condition()
        self.pulls = PullPool(self.begin, self.returned.extend)

    def begin(self, requested: int) -> Call:
        call = Call(requested)
        with self.started:
            self.calls.append(call)
            self.started.notify_all()
        return call

    def wait_for_call(self, number: int) -> Call:
        with self.started:
            assert self.started.wait_for(lambda: len(self.calls) >= number, timeout=20)
        return self.calls[number - 1]


@pytest.fixture
def server() -> Server:
    return Server()


def test_take_returns_messages_of_pull(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 5, 20.0)
        server.wait_for_call(1).answer("a", "b")
        assert taken.result(20) == ["a", "b"]


def test_take_adopts_running_pull(server: Server) -> None:
    assert server.pulls.take(5, 0.0) == []
    server.calls[0].plan("a")
    assert server.pulls.take(5, 20.0) == ["a"]
    assert (len(server.calls), server.returned) == (1, [])


def test_take_gives_back_messages_without_waiting_caller(server: Server) -> None:
    assert server.pulls.take(5, 0.0) == []
    server.calls[0].answer("a", "b")
    assert server.returned == ["a", "b"]
    assert server.pulls.take(5, 0.0) == []
    assert len(server.calls) == 2


def test_take_gives_back_excess_messages(server: Server) -> None:
    assert server.pulls.take(5, 0.0) == []
    server.calls[0].plan("a", "b", "c")
    assert server.pulls.take(2, 20.0) == ["a", "b"]
    assert (len(server.calls), server.returned) == (1, ["c"])


def test_take_adds_pulls_up_to_limit(server: Server) -> None:
    for count in range(1, 9):
        assert server.pulls.take(count, 0.0) == []
    assert [call.requested for call in server.calls] == [1, 1, 1, 1]


def test_take_raises_error_when_nothing_arrives_afterwards(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 3.0)
        server.wait_for_call(1).fail(grpc.StatusCode.UNAVAILABLE)
        server.wait_for_call(2)
        with pytest.raises(api.ServiceUnavailable):
            taken.result(20)


def test_take_raises_refusal_of_own_pull(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 20.0)
        server.wait_for_call(1).fail(grpc.StatusCode.NOT_FOUND)
        with pytest.raises(api.NotFound):
            taken.result(20)


def test_take_ignores_error_without_waiting_caller(server: Server) -> None:
    assert server.pulls.take(1, 0.0) == []
    server.calls[0].fail(grpc.StatusCode.NOT_FOUND)
    assert server.pulls.take(1, 0.0) == []


def test_take_retries_transient_error(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 20.0)
        server.wait_for_call(1).fail(grpc.StatusCode.UNAVAILABLE)
        server.wait_for_call(2).answer("a")
        assert taken.result(20) == ["a"]


def test_take_raises_lasting_transient_error(server: Server) -> None:
    class Broken(Server):
        def begin(self, requested: int) -> Call:
            call = super().begin(requested)
            call.fail(grpc.StatusCode.UNAVAILABLE)
            return call

    with pytest.raises(api.ServiceUnavailable):
        Broken().pulls.take(1, 0.2)


def test_take_continues_after_empty_pull(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 20.0)
        server.wait_for_call(1).fail(grpc.StatusCode.DEADLINE_EXCEEDED)
        server.wait_for_call(2).answer("a")
        assert taken.result(20) == ["a"]


def test_close_cancels_pulls_and_waiting_callers(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 60.0)
        call = server.wait_for_call(1)
        server.pulls.close()
        assert taken.result(20) == []
    assert call.cancelled()
    assert server.pulls.take(1, 60.0) == []
