"""The user's function: which ones `Worker` accepts, and what their results and requests become in events."""

from __future__ import annotations

import base64
import datetime
import functools
import json
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from worker_harness import Finished, Harness

from cloud_tasks import Retry, exit_codes
from cloud_tasks.errors import InputError
from cloud_tasks.worker import Worker, WorkerData
from cloud_tasks.worker.task_function import adapt_function, check_callback
from cloud_tasks.worker.task_process import function_call
from cloud_tasks.worker.task_process.assignment import Assignment


def run_program(worker: Harness, function: str, *args: str, tasks: int = 2, worker_arguments: str = "") -> Finished:
    """Run a program with the function ``task`` on tasks ``t0``, ``t1`` …, without stdin."""
    program = worker.folder / "program.py"
    program.write_text(
        "from cloud_tasks import Retry\nfrom cloud_tasks.worker import Worker\n"
        f"{function}\n"
        f"tasks = [{{'task_id': f't{{n}}', 'data': {{'n': n}}}} for n in range({tasks})]\n"
        f"Worker(task, task_source=lambda: tasks{worker_arguments}).run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(program), *args],
        cwd=worker.folder, env=worker.environment | {"CLOUD_TASKS_BACKOFF_BASE": "0.01"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    worker.processes.append(process)
    return worker.finish(process)


def called(function: Any) -> tuple[dict[str, Any], bytes]:
    return function_call.call_function(function, WorkerData(), Assignment(1, 0, "task", 1, {}, "", {}), (None, None))


# -- functions that Worker refuses -----------------------------------------------------------------------------------


def generator(task_id: str, data: Any, worker_data: Any) -> Any:
    yield 1


async def async_generator(task_id: str, data: Any, worker_data: Any) -> Any:
    yield 1


async def coroutine(task_id: str, data: Any, worker_data: Any) -> Any:
    return {"id": task_id}


class Called:
    def __call__(self, task_id: str, data: Any, worker_data: Any) -> Any:
        yield 1

    def method(self, task_id: str, data: Any, worker_data: Any) -> Any:
        yield 1


class AsyncCalled:
    async def __call__(self, task_id: str, data: Any, worker_data: Any) -> Any:
        return {"id": task_id}


def passing(function: Any) -> Any:
    """Decorate with a function that returns what the decorated one returns."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def consuming(function: Any) -> Any:
    """Decorate a generator function with one that returns a list."""
    return functools.wraps(function)(lambda *args: list(function(*args)))


@pytest.mark.parametrize(
    "function",
    [
        generator,
        async_generator,
        functools.partial(generator),
        functools.partial(functools.partial(async_generator), worker_data=None),
        Called(),
        functools.partial(Called()),
        Called().method,
        functools.partial(Called().method),
    ],
)
def test_worker_refuses_generator_functions_in_one_line(function: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Worker(function, args=[])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "is a generator function, whose body would not run; return a list" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": "process_task"}, "Worker: function: expected a function, got str"),
        ({"function": None}, "Worker: function: expected a function, got NoneType"),
        ({"function": called, "returns": "pairs"}, 'Worker: returns: expected "pair" or "value", got \'pairs\''),
        ({"function": called, "worker_init": coroutine}, "Worker: worker_init: async and generator functions"),
        ({"function": called, "on_termination_notice": generator}, "Worker: on_termination_notice: async and"),
    ],
)
def test_worker_refuses_unusable_arguments_in_one_line(
    arguments: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        Worker(args=[], **arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"Error: {message}")


def test_callback_may_be_any_other_callable() -> None:
    for callback in (None, print, len, functools.partial(print), Path, called):
        check_callback(callback, "worker_init")


@pytest.mark.parametrize("function", [len, Path, called, functools.lru_cache(called), functools.partial(called)])
def test_other_callables_are_called_as_they_are(function: Any) -> None:
    assert adapt_function(function, "pair") is function


# -- async functions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [coroutine, functools.partial(coroutine), AsyncCalled(), AsyncCalled().__call__, passing(coroutine),
     functools.partial(passing(passing(coroutine)))],
)  # fmt: skip
def test_async_functions_are_run(function: Any) -> None:
    head, content = called(adapt_function(function, "pair"))
    assert (head, json.loads(content)) == ({}, {"id": "task"})


def test_decorated_generator_function_that_is_consumed_is_run() -> None:
    assert called(adapt_function(consuming(generator), "pair"))[1] == b"[1]"


def test_decorated_generator_function_that_is_not_consumed_fails_its_task() -> None:
    head, _ = called(adapt_function(passing(generator), "pair"))
    assert head["error"] == "UnserializableResult"


@pytest.mark.parametrize("mode", [(), ("--start-method", "spawn"), ("--reuse-processes", "10")])
def test_async_function_runs_in_every_kind_of_process(worker: Harness, mode: tuple[str, ...]) -> None:
    function = """
import asyncio
async def task(task_id, data, worker_data):
    await asyncio.sleep(0)
    if data["n"] == 1:
        raise ValueError("seventeen")
    if data["n"] == 2 and worker_data.attempt == 1:
        raise Retry("later", after=0)
    return False, {"n": data["n"]}
"""
    finished = run_program(worker, function, *mode, tasks=4)
    assert finished.code == exit_codes.TASKS_FAILED, finished.log
    ends = {event["task_id"]: event for event in worker.events("task_completed", "task_exception")}
    assert [ends[f"t{n}"].get("result") for n in range(4)] == [{"n": 0}, None, {"n": 2}, {"n": 3}]
    assert ends["t1"]["exception"] == "seventeen"
    # The traceback starts in the user's program.
    assert ends["t1"]["stack_trace"].splitlines()[1].endswith('program.py", line 8, in task')


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_pair_requests_a_retry_with_one_warning_and_its_reason(worker: Harness) -> None:
    finished = run_program(worker, "def task(task_id, data, worker_data):\n    return True, 17", "--max-attempts", "2")
    assert finished.log.count("returned (True, …), which requests a retry") == 1
    assert "Worker(…, returns='value')" in finished.log
    dead = worker.events("task_dead")
    assert {event["cause"] for event in dead} == {
        "gave up after 2 attempts: returned (True, …), which requests a retry"
    }
    retried = worker.events("task_completed")
    assert {event["reason"] for event in retried} == {"returned (True, …), which requests a retry"}


@pytest.mark.parametrize("mode", [(), ("--start-method", "spawn"), ("--reuse-processes", "10")])
def test_pair_is_the_result_of_a_worker_that_returns_values(worker: Harness, mode: tuple[str, ...]) -> None:
    function = "def task(task_id, data, worker_data):\n    return bool(data['n']), 17"
    finished = run_program(worker, function, *mode, worker_arguments=", returns='value'")
    assert "requests a retry" not in finished.log
    assert sorted(event["result"] for event in worker.events("task_completed")) == [[False, 17], [True, 17]]


def test_dead_task_that_raised_retry_has_its_reason(worker: Harness) -> None:
    run_program(worker, "def task(*args):\n    raise Retry('the server is busy')", "--max-attempts", "1", tasks=1)
    (event,) = worker.events("task_dead")
    assert event["cause"] == "gave up after 1 attempt: the task requested a retry: the server is busy"


# -- Retry -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "seconds"),
    [(None, None), (0, 0.0), (2, 2.0), (0.5, 0.5), (-1, 0.0), (datetime.timedelta(minutes=1), 60.0),
     (Fraction(1, 2), 0.5)],
)  # fmt: skip
def test_retry_takes_seconds_and_timedeltas(after: Any, seconds: float | None) -> None:
    assert Retry("x", after=after).after == seconds


ODD = ["soon", b"1", True, [], object(), float("nan"), float("inf"), -float("inf"), 1e300, 10**400, 1j,
       datetime.timedelta.max, datetime.date(2024, 1, 1)]  # fmt: skip


@pytest.mark.parametrize("after", ODD, ids=[type(value).__name__ for value in ODD])
def test_retry_with_an_unusable_delay_is_an_exception_of_the_task(after: Any) -> None:
    def by_argument(*_: Any) -> None:
        raise Retry("x", after=after)

    def by_attribute(*_: Any) -> None:
        request = Retry("x")
        request.after = after
        raise request

    for function in (by_argument, by_attribute):
        head, content = called(function)
        assert head["error"] in ("TypeError", "ValueError")
        assert head["message"].startswith("Retry: after: expected")
        assert function.__name__ in head["trace"]
        assert content == b""


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Bare(Retry):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Retry(17), "17"),  # type: ignore[arg-type]
        (Retry(None), "None"),  # type: ignore[arg-type]
        (Retry("caf\udce9"), "caf\\udce9"),
        (Retry(), ""),
    ],
)
def test_retry_reason_is_text(request_: Retry, reason: str) -> None:
    def raises(*_: Any) -> None:
        raise request_

    head, _ = called(raises)
    assert (head["retry"], head["reason"]) == (True, reason)


@pytest.mark.parametrize("request_", [Retry(Unprintable()), Bare()])  # type: ignore[arg-type]
def test_retry_that_cannot_be_read_is_an_exception_of_the_task(request_: Retry) -> None:
    def raises(*_: Any) -> None:
        raise request_

    head, _ = called(raises)
    assert head["error"] in ("RuntimeError", "AttributeError")


def test_retry_with_odd_arguments_affects_no_other_task(worker: Harness) -> None:
    function = "def task(task_id, data, worker_data):\n    raise Retry('x', after=['soon', 0][data['n']])"
    run_program(worker, function, "--max-attempts", "1")
    (failed,) = worker.events("task_exception")
    assert (failed["task_id"], failed["exception_type"]) == ("t0", "TypeError")
    assert "raise Retry('x', after=" in failed["stack_trace"]
    assert [event["task_id"] for event in worker.events("task_dead")] == ["t1"]
    assert worker.events("task_exited") == []


# -- results in events -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [(), ("--start-method", "spawn"), ("--reuse-processes", "10")])
def test_results_of_every_kind_reach_the_events(worker: Harness, mode: tuple[str, ...]) -> None:
    function = """
import collections, threading
VALUES = [float("nan"), {1: {2}}, collections.UserDict, threading.Lock(), {1: 1, "1": 2}]
def task(task_id, data, worker_data):
    return VALUES[data["n"]]
"""
    finished = run_program(worker, function, *mode, tasks=5)
    assert finished.code == exit_codes.TASKS_FAILED, finished.log
    ends = {event["task_id"]: event for event in worker.events("task_completed", "task_exception")}
    assert (ends["t0"]["result"], ends["t1"]["result"]) == ("NaN", {"1": [2]})
    assert ends["t2"]["result"] is None
    assert ends["t2"]["result_type"] == "abc.ABCMeta"
    assert pickle.loads(base64.b64decode(ends["t2"]["result_pickle"])).__name__ == "UserDict"
    assert ends["t3"]["result_repr"].startswith("<unlocked")
    assert ends["t3"]["warning"]
    assert "the keys 1 and '1' of the result" in ends["t4"]["exception"]
    # Each kind is logged at once, by the task that shows it first.
    for task_id, text in (("t2", "is pickled"), ("t3", "cannot be pickled"), ("t4", "are one key in JSON")):
        (line,) = (line for line in finished.log.splitlines() if f"Task {task_id}: " in line and "(shown once)" in line)
        assert text in line


def test_value_of_a_result_that_is_too_long_outlives_the_worker(worker: Harness) -> None:
    function = "def task(task_id, data, worker_data):\n    return 'x' * 5000"
    finished = run_program(worker, function, "--max-result-bytes", "1000", tasks=1)
    assert "set result_store" in finished.log
    (event,) = worker.events("task_exception")
    path = event["exception"].partition("the value is kept in ")[2].partition(" on ")[0]
    assert json.loads(Path(path).read_text()) == "x" * 5000
    assert Path(path).parent.parent == worker.folder / "tmp"


def test_relative_result_store_does_not_depend_on_the_working_folder_of_a_task(worker: Harness) -> None:
    function = "import os\ndef task(task_id, data, worker_data):\n    os.chdir('/')\n    return 'x' * 5000"
    run_program(worker, function, "--max-result-bytes", "1000", "--result-store", "store", tasks=1)
    (event,) = worker.events("task_completed")
    assert event["result_address"] == os.fspath(worker.folder / "store" / "t0.1.json")


def test_error_of_a_file_name_that_is_not_utf8_can_be_encoded(worker: Harness) -> None:
    function = "def task(*args):\n    raise ValueError('cannot read \\udcff.fits')"
    run_program(worker, function, tasks=1)
    (event,) = worker.events("task_exception")
    assert event["exception"] == "cannot read \\udcff.fits"
    assert event["stack_trace"].encode()


def test_adapt_function_names_the_parameter() -> None:
    with pytest.raises(InputError, match=r"Worker: function: expected a function, got int"):
        adapt_function(3, "pair")
