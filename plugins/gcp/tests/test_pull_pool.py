"""PullPool outlive the callers that began them."""

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
    """What gRPC raises."""

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
    """A call under way, as gRPC shows it, that ends when the test says so."""

    def __init__(self, asked: int) -> None:
        self.asked = asked
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
        """Answer when somebody looks."""
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
    """Keeps what was begun, and what came back."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.back: list[str] = []
        self.began = threading.Condition()
        self.pulls = PullPool(self.begin, self.back.extend)

    def begin(self, asked: int) -> Call:
        call = Call(asked)
        with self.began:
            self.calls.append(call)
            self.began.notify_all()
        return call

    def wait_for_call(self, number: int) -> Call:
        with self.began:
            assert self.began.wait_for(lambda: len(self.calls) >= number, timeout=20)
        return self.calls[number - 1]


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_caller_gets_what_its_pull_brings(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 5, 20.0)
        server.wait_for_call(1).answer("a", "b")
        assert taken.result(20) == ["a", "b"]


def test_a_pull_that_one_caller_left_serves_the_next(server: Server) -> None:
    assert server.pulls.take(5, 0.0) == []
    server.calls[0].plan("a")
    assert server.pulls.take(5, 20.0) == ["a"]
    assert (len(server.calls), server.back) == (1, [])


def test_what_comes_while_nobody_waits_is_given_back_at_once(server: Server) -> None:
    assert server.pulls.take(5, 0.0) == []
    server.calls[0].answer("a", "b")
    assert server.back == ["a", "b"]
    assert server.pulls.take(5, 0.0) == []
    assert len(server.calls) == 2


def test_what_is_more_than_was_asked_for_is_given_back(server: Server) -> None:
    assert server.pulls.take(5, 0.0) == []
    server.calls[0].plan("a", "b", "c")
    assert server.pulls.take(2, 20.0) == ["a", "b"]
    assert (len(server.calls), server.back) == (1, ["c"])


def test_a_larger_wish_adds_to_what_is_under_way_and_there_are_never_more_than_four(server: Server) -> None:
    for count in range(1, 9):
        assert server.pulls.take(count, 0.0) == []
    assert [call.asked for call in server.calls] == [1, 1, 1, 1]


def test_trouble_and_then_silence_is_trouble(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 3.0)
        server.wait_for_call(1).fail(grpc.StatusCode.UNAVAILABLE)
        server.wait_for_call(2)
        with pytest.raises(api.ServiceUnavailable):
            taken.result(20)


def test_a_refusal_is_told_to_the_one_who_began_the_pull(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 20.0)
        server.wait_for_call(1).fail(grpc.StatusCode.NOT_FOUND)
        with pytest.raises(api.NotFound):
            taken.result(20)


def test_trouble_that_came_while_nobody_waited_is_forgotten(server: Server) -> None:
    assert server.pulls.take(1, 0.0) == []
    server.calls[0].fail(grpc.StatusCode.NOT_FOUND)
    assert server.pulls.take(1, 0.0) == []


def test_passing_trouble_is_tried_again_within_the_wait(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 20.0)
        server.wait_for_call(1).fail(grpc.StatusCode.UNAVAILABLE)
        server.wait_for_call(2).answer("a")
        assert taken.result(20) == ["a"]


def test_passing_trouble_that_lasts_is_told(server: Server) -> None:
    class Broken(Server):
        def begin(self, asked: int) -> Call:
            call = super().begin(asked)
            call.fail(grpc.StatusCode.UNAVAILABLE)
            return call

    with pytest.raises(api.ServiceUnavailable):
        Broken().pulls.take(1, 0.2)


def test_the_end_of_a_pull_without_messages_is_no_error(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 20.0)
        server.wait_for_call(1).fail(grpc.StatusCode.DEADLINE_EXCEEDED)
        server.wait_for_call(2).answer("a")
        assert taken.result(20) == ["a"]


def test_closing_ends_the_pulls_and_those_who_wait(server: Server) -> None:
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.pulls.take, 1, 60.0)
        call = server.wait_for_call(1)
        server.pulls.close()
        assert taken.result(20) == []
    assert call.cancelled()
    assert server.pulls.take(1, 60.0) == []
