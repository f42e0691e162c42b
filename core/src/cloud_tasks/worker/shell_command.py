"""Workers whose tasks are shell commands, without a Python program.

Placeholders in the command (``{seed}``, ``{task_id}``) are replaced by the task's data, quoted for the shell. Exit code
0 means success. The content of the file that ``CLOUD_TASKS_RESULT_FILE`` names is the result: JSON, or else text.

Invariants, each with a test:

1. A value of a task's data becomes part of a word of the command, never shell syntax.
2. The exit code or signal of a failed command is reported.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.options import PREFIXES, make_parser
from cloud_tasks.worker.worker import Worker

__all__ = ["command_function", "fill_in", "run_command_worker"]

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w.]*)\}")


def run_command_worker(args: Sequence[str], *, program: str = "cloud-tasks worker") -> None:
    """Run a worker whose tasks are commands: ``--command``, ``--param`` and the worker's options.

    Raises:
        SystemExit: As `Worker.run`.
    """
    parser = make_parser(
        prog=program,
        description="Run tasks that are shell commands.",
        examples=(
            f"{program} --command 'convert {{input}} {{output}}' --task-file tasks.json",
            f"{program} --command './simulate --seed {{seed}}' --param seed=1..100 --num-simultaneous-tasks 4",
        ),
    )
    parser.add_argument(
        "--command",
        default=None,
        help="command to run; {name} is replaced by a field of the task's data, {task_id} by its id",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="create a task for each combination of values, e.g. seed=1..100 or mode=fast,slow; text with commas in "
        "quotes: name='\"a, b\",c'",
    )
    # The worker needs the function before it has parsed the command.
    commands: list[str] = []
    worker = Worker(
        lambda task_id, data, worker_data: command_function(commands[0])(task_id, data, worker_data),
        task_source=None,
        args=args,
        argparser=parser,
    )
    command = worker.data.args.command or next(
        (os.environ[f"{prefix}COMMAND"] for prefix in PREFIXES if os.environ.get(f"{prefix}COMMAND")), ""
    )
    if not command:
        parser.error("no command; add --command 'program {input}'")
    commands.append(command)
    if worker.data.args.param:
        if getattr(worker.data, "task_file", None) is not None:
            parser.error("--param and --task-file exclude each other; give one of them")
        worker.set_task_source(_ParameterGrid(worker.data.args.param))
    worker.run()


class _ParameterGrid:
    """The task source of ``--param``; the slow imports are left to the process that reads it."""

    def __init__(self, parameters: Sequence[str]) -> None:
        self._parameters = parameters

    def __iter__(self) -> Iterator[Any]:
        return iter(self._source())

    def expected_length(self) -> int | None:
        number: int | None = self._source().expected_length()
        return number

    def _source(self) -> Any:
        from cloud_tasks.builtin import parameter_grid

        return parameter_grid(self._parameters)


def command_function(command: str) -> Callable[[str, Mapping[str, Any], WorkerData], Any]:
    """Return a task function that runs the command."""

    def run(task_id: str, data: Mapping[str, Any], worker_data: WorkerData) -> Any:
        result_file = os.path.join(worker_data.scratch_dir, "result")
        values = {"task_id": task_id, "attempt": worker_data.attempt, "slot": worker_data.slot, **data}
        text = fill_in(command, {"scratch_dir": worker_data.scratch_dir, **values})
        variables = {"CLOUD_TASKS_TASK_ID": task_id, "CLOUD_TASKS_RESULT_FILE": result_file}
        code = subprocess.run(
            ["/bin/sh", "-c", text], env=os.environ | variables, stdin=subprocess.DEVNULL, check=False
        ).returncode
        if code != 0:
            _exit_like(code)
        return False, _result(result_file)

    return run


def fill_in(command: str, values: Mapping[str, Any]) -> str:
    """Replace the placeholders of a command, each value quoted; a list becomes several words, ``{{`` a brace.

    Raises:
        InputError: A placeholder names an unknown field.
    """

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        value: Any = values
        for part in match[1].split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise InputError(f"the task's data has no field for {match[0]}", hint=f"use one of {', '.join(values)}")
            value = value[part]
        if isinstance(value, (list, tuple)):
            return " ".join(_word(entry) for entry in value)
        return _word(value)

    return _PLACEHOLDER.sub(replace, command)


def _word(value: Any) -> str:
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


def _exit_like(code: int) -> None:
    """Exit like the command. A shell exits with 128 plus the number of the signal that ended its last command."""
    number = -code if code < 0 else code - 128
    if (
        number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGKILL)
        or code < 0
    ):
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)
    os._exit(code & 0xFF)


def _result(path: str) -> Any:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text.rstrip("\n")
