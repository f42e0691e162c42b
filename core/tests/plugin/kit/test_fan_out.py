"""Invariants of parallel calls."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin.kit import FanOut


@pytest.fixture
def fan_out() -> Iterator[FanOut]:
    fan_out = FanOut(4, "fan-out-test")
    yield fan_out
    fan_out.close()


def test_map_keeps_the_order(fan_out: FanOut) -> None:
    assert fan_out.map(lambda number: number * 2, range(100)) == [number * 2 for number in range(100)]
    assert fan_out.map(lambda number: None, range(3)) == [None] * 3


def test_map_runs_a_single_item_in_the_callers_thread(fan_out: FanOut) -> None:
    assert fan_out.map(lambda _: threading.current_thread(), [1]) == [threading.current_thread()]
    names = {thread.name for thread in fan_out.map(lambda _: threading.current_thread(), range(20))}
    assert all(name.startswith("fan-out-test") for name in names)


def test_map_runs_at_most_the_given_number_of_calls(fan_out: FanOut) -> None:
    lock, together = threading.Lock(), threading.Barrier(4)
    running, most = 0, 0

    def work(number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(timeout=30)
        with lock:
            running -= 1

    fan_out.map(work, range(12))
    assert most == 4


def test_map_raises_the_first_error_after_all_calls(fan_out: FanOut) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number in (2, 5):
            raise ValueError(number)
        done.append(number)

    with pytest.raises(ValueError, match="2"):
        fan_out.map(work, range(8))
    assert sorted(done) == [0, 1, 3, 4, 6, 7]


def test_outcomes_has_a_result_or_an_error_for_each_item(fan_out: FanOut) -> None:
    def work(number: int) -> int:
        if number % 2:
            raise ProviderError(str(number))
        return number

    assert [str(each) for each in fan_out.outcomes(work, range(6))] == ["0", "1", "2", "3", "4", "5"]
    assert [str(each) for each in fan_out.outcomes(work, [1])] == ["1"]
    with pytest.raises(ZeroDivisionError):
        fan_out.outcomes(lambda number: 1 // number, [1, 0])


def test_closed_fan_out_refuses_parallel_calls(fan_out: FanOut) -> None:
    fan_out.map(str, range(3))
    fan_out.close()
    fan_out.close()
    with pytest.raises(RuntimeError, match="closed"):
        fan_out.map(str, range(3))


def test_forked_process_has_threads_of_its_own(fan_out: FanOut) -> None:
    fan_out.map(str, range(8))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        answer = b"failed"
        try:
            if fan_out.map(str, range(3)) == ["0", "1", "2"]:
                fan_out.close()
                answer = b"done"
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"done"
    os.waitpid(child, 0)
    assert fan_out.map(str, range(3)) == ["0", "1", "2"]
