"""Threaded loop: blocking calls in other threads, everything else on one."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from cloud_tasks.controller.event_loop import Pause, ThreadedLoop, call, gather, sleep, start
from cloud_tasks.store import JobClock


def test_time_passes_evenly_whatever_is_done_to_the_clock_of_the_machine() -> None:
    machine = {"wall": 1_000_000.0, "ticks": 5.0}
    clock = JobClock(ticks=lambda: machine["ticks"], wall=lambda: machine["wall"], boot=lambda: "boot")
    loop = ThreadedLoop(threads=1, clock=clock)
    seen = []
    # The clock runs, is set back, is set forward; then the machine sleeps.
    for wall, ticks in ((10, 10), (-3600, 10), (7200, 10), (600, 600)):
        machine["wall"] += wall
        machine["ticks"] += ticks
        seen.append(loop.now().timestamp() - 1_000_000)
    loop.close()
    assert seen == [10, 20, 30, 630]


@pytest.fixture
def real_loop() -> Iterator[ThreadedLoop]:
    made = ThreadedLoop(threads=4)
    yield made
    made.close()


def test_call_runs_in_another_thread_and_returns_to_the_loop(real_loop: ThreadedLoop) -> None:
    threads: dict[str, int] = {}
    results: list[int] = []

    def work() -> int:
        threads["work"] = threading.get_ident()
        return 42

    def then(result: int) -> None:
        threads["then"] = threading.get_ident()
        results.append(result)

    real_loop.call(work, then, lambda error: None)
    real_loop.run(lambda: bool(results))
    assert results == [42]
    assert threads["then"] == threading.get_ident()
    assert threads["work"] != threading.get_ident()


def test_call_passes_an_error_to_its_callback(real_loop: ThreadedLoop) -> None:
    errors: list[Exception] = []

    def work() -> None:
        raise ValueError("no")

    real_loop.call(work, lambda _: None, errors.append)
    real_loop.run(lambda: bool(errors))
    assert str(errors[0]) == "no"


def test_error_of_a_callback_ends_the_loop(real_loop: ThreadedLoop) -> None:
    def explode() -> None:
        raise RuntimeError("broken")

    real_loop.post(explode)
    with pytest.raises(RuntimeError, match="broken"):
        real_loop.run(lambda: False)


def test_timers_run_in_the_order_of_their_times(real_loop: ThreadedLoop) -> None:
    order: list[str] = []
    real_loop.later(timedelta(milliseconds=20), lambda: order.append("late"))
    real_loop.later(timedelta(milliseconds=1), lambda: order.append("early"))
    real_loop.run(lambda: len(order) == 2)
    assert order == ["early", "late"]


def test_posts_of_many_threads_all_run_on_the_loop(real_loop: ThreadedLoop) -> None:
    seen: list[int] = []

    def post_a_hundred() -> None:
        for _ in range(100):
            real_loop.post(lambda: seen.append(threading.get_ident()))

    posters = [threading.Thread(target=post_a_hundred) for _ in range(5)]
    for poster in posters:
        poster.start()
    real_loop.run(lambda: len(seen) == 500)
    for poster in posters:
        poster.join()
    assert set(seen) == {threading.get_ident()}


def test_coroutine_runs_on_the_loop_and_gets_results_and_errors_of_calls(real_loop: ThreadedLoop) -> None:
    loop = real_loop
    found: list[object] = []

    async def flow() -> None:
        worker_thread = await call(loop, threading.get_ident)
        found.append(worker_thread != threading.get_ident())
        await sleep(loop, timedelta(milliseconds=1))
        try:
            await call(loop, lambda: 1 // 0)
        except ZeroDivisionError:
            found.append(threading.get_ident())
        await Pause[None](lambda then, failed: loop.post(lambda: then(None)))
        found.append("done")

    start(flow())
    loop.run(lambda: "done" in found)
    assert found == [True, threading.get_ident(), "done"]


def test_error_that_a_coroutine_does_not_catch_ends_the_loop(real_loop: ThreadedLoop) -> None:
    loop = real_loop

    async def flow() -> None:
        await call(loop, lambda: 1 // 0)

    start(flow())
    with pytest.raises(ZeroDivisionError):
        loop.run(lambda: False)


def test_gather_leaves_no_coroutine_open_if_the_loop_fails_to_make_a_call() -> None:
    class Stopped(BaseException):
        pass

    def fail(*_: object) -> None:
        raise Stopped

    async def make_call() -> int:
        return await Pause[int](fail)

    async def flow() -> None:
        await gather(coroutines)

    coroutines = [make_call(), make_call(), make_call()]
    with pytest.raises(Stopped):
        start(flow())
    assert [inspect.getcoroutinestate(each) for each in coroutines[1:]] == [inspect.CORO_CLOSED] * 2


def test_call_that_never_returns_does_not_keep_the_process_from_ending() -> None:
    program = (
        "import threading\n"
        "from cloud_tasks.controller import event_loop\n"
        "event_loop._CLOSE_TIMEOUT = 0.1\n"
        "loop, begun = event_loop.ThreadedLoop(threads=2), threading.Event()\n"
        "def hang(): begun.set(); threading.Event().wait()\n"
        "loop.call(hang, print, print)\n"
        "begun.wait(); loop.close(); print('closed')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "closed\n"


def test_close_waits_for_running_calls_and_drops_waiting_ones() -> None:
    loop, begun, finished = ThreadedLoop(threads=1), threading.Event(), []

    def work(number: int) -> None:
        begun.set()
        time.sleep(0.05)
        finished.append(number)

    for number in range(5):
        loop.call(functools.partial(work, number), lambda _: None, lambda error: None)
    begun.wait()
    loop.close()
    assert finished == [0]
