"""Tasks that are ``async`` functions: they end and fail as synchronous ones do."""

from __future__ import annotations

from typing import Any

import pytest
from worker_harness import modes, run_program

ENDS = ("task_completed", "task_exception", "task_exited", "task_timed_out", "task_released", "task_dead")
DEFINITIONS = """
class BadText(str):
    def __str__(self): raise ValueError("bad")
    __repr__ = __len__ = __format__ = __str__
class ExitingError(Exception):
    def __str__(self): sys.exit(3)
class BadTextError(Exception):
    def __str__(self): return BadText("seventeen")
def deep():
    group = ValueError("inner")
    for _ in range(3000): group = ExceptionGroup("group", [group])
    return group
"""
BODIES = [
    "raise BadTextError()",
    "raise ValueError(BadText('seventeen'))",
    "raise ExitingError()",
    "raise deep()",
    "raise KeyboardInterrupt('x')",
    "raise GeneratorExit('x')",
    "sys.exit(5)",
    "sys.exit(10**30)",
    "sys.exit(-10**30)",
    "sys.exit(257)",
    "sys.exit(True)",
    "sys.exit(BadText('x'))",
    "return BadText('seventeen')",
]
FIELDS = ("event_type", "exception_type", "exception", "exit_code", "result", "result_type")


@pytest.mark.parametrize("body", BODIES)
def test_async_function_ends_as_a_synchronous_one(worker, body) -> None:
    found: list[dict[str, Any]] = []
    for kind in ("def", "async def"):
        (worker.folder / "events.log").unlink(missing_ok=True)
        finished = run_program(worker, f"{DEFINITIONS}\n{kind} f(task_id, data, worker_data):\n    {body}\n")
        (event,) = worker.events(*ENDS)
        assert worker.events("fatal_exception") == [], finished.log
        found.append({name: event.get(name) for name in FIELDS})
    assert found[0] == found[1]
    if "**30" in body:
        assert found[0]["exit_code"] == 255


@modes
def test_result_of_an_async_function_is_reported_before_its_threads_end(worker, mode) -> None:
    code = """
import asyncio
async def f(task_id, data, worker_data):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 1000)
    return 2
"""
    run_program(worker, code, *mode, "--max-runtime", "3")
    (event,) = worker.events(*ENDS)
    assert (event["event_type"], event["result"]) == ("task_completed", 2)
    assert worker.nothing_is_left()
