"""Log lines of plugins in a worker."""

from __future__ import annotations

import subprocess
import sys

import pytest
from worker_harness import Harness

ROUTED = """
import sys
from contextlib import ExitStack
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.supervisor.plugin_logs import route_plugin_logs
stack = ExitStack()
start = lambda: route_plugin_logs(Log(verbose=False), stack)
"""


def run(program: str) -> tuple[str, str]:
    """Return stdout and stderr of a program, without time stamps."""
    finished = subprocess.run([sys.executable, "-c", ROUTED + program], capture_output=True, text=True, check=True)
    lines = [line.split(" ", 2)[-1] if line[:1] == "2" else line for line in finished.stderr.splitlines()]
    return finished.stdout, "\n".join(lines)


@pytest.mark.parametrize("verbose", [False, True])
def test_worker_logs_each_line_of_a_plugin_once_on_stderr_in_its_format(worker: Harness, verbose: bool) -> None:
    worker.load({"do": "nothing"})
    finished = worker.run_on_queue(*["-v"][: int(verbose)], FOLDER_LOGS="1")
    assert finished.code == 0, finished.log
    assert finished.output == ""
    lines = [line.split(" ", 2)[2] for line in finished.log.splitlines() if "structlog" in line or "logging" in line]
    debug = ["DEBUG - A debug line of structlog"] if verbose else []
    assert lines == ["INFO - A line of structlog [region=x]", *debug, "WARNING - A warning of logging"]


def test_route_plugin_logs_imports_neither_library() -> None:
    assert run("start(); print({'logging', 'structlog'} & {*sys.modules})") == ("set()\n", "")


def test_route_plugin_logs_routes_libraries_that_are_imported_already() -> None:
    program = """
import logging, structlog
start()
logging.getLogger("a.b").error("from logging")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("from structlog")
"""
    output, log = run(program)
    assert output == ""
    assert log.startswith("ERROR - from logging\nERROR - from structlog\nTraceback")
    assert log.endswith("ZeroDivisionError: division by zero")


def test_route_plugin_logs_leaves_the_configuration_of_the_program() -> None:
    program = """
import logging, structlog
logging.basicConfig(format="program: %(message)s")
structlog.configure(processors=[lambda _logger, _method, entry: "program: " + entry["event"]])
start()
logging.getLogger("a.b").error("from logging")
structlog.get_logger().error("from structlog")
"""
    assert run(program) == ("program: from structlog\n", "program: from logging")


def test_route_plugin_logs_is_undone_when_the_stack_is_closed() -> None:
    program = """
hooks = list(sys.meta_path)
start()
import structlog, logging
stack.close()
print(structlog.is_configured(), logging.getLogger().handlers, sys.meta_path == hooks)
"""
    assert run(program) == ("False [] True\n", "")
