"""Tasks that are shell commands: a worker without a Python program.

A command's placeholders (``{seed}``, ``{task_id}``) are replaced by the task's data, quoted for the shell. Exit code 0
is success. What the command writes to the file named by ``CLOUD_TASKS_RESULT_FILE`` is the result: JSON, or text.

Invariants, each with a test:

1. No value of a task's data can be anything but text of the command's words.
2. A command that is ended by a signal, or with another code than 0, is reported so.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.options import PREFIXES, make_parser
from cloud_tasks.worker.worker import Worker

__all__ = ["command_function", "fill_in", "run_command_worker"]

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w.]*)\}")


def run_command_worker(args: Sequence[str], *, program: str = "cloud-tasks worker") -> None:
    """Be a worker whose tasks are commands: ``--command``, ``--param`` and the worker's options.

    Raises:
        SystemExit: As `Worker.run` does.
    """
    parser = make_parser(
        prog=program,
        description="Works on tasks that are shell commands.",
        examples=(
            f"{program} --command 'convert {{input}} {{output}}' --task-file tasks.json",
            f"{program} --command './simulate --seed {{seed}}' --param seed=1..100 --num-simultaneous-tasks 4",
        ),
    )
    parser.add_argument(
        "--command",
        default=None,
        help="the command; {name} stands for a field of the task's data, {task_id} for its id",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="make the tasks: every combination of the values, e.g. seed=1..100 or mode=fast,slow",
    )
    # The command is known only when the worker has parsed, and the worker needs its function before.
    commands: list[str] = []
    worker = Worker(
        lambda task_id, data, worker_data: command_function(commands[0])(task_id, data, worker_data),
        task_source=None,
        args=args,
        argparser=parser,
    )
    given = worker.data.args.command or next(
        (os.environ[f"{prefix}COMMAND"] for prefix in PREFIXES if os.environ.get(f"{prefix}COMMAND")), ""
    )
    if not given:
        parser.error("there is no command; give --command 'program {input}'")
    commands.append(given)
    if worker.data.args.param:
        worker.set_task_source("grid:" + ";".join(worker.data.args.param))
    worker.run()


def command_function(command: str) -> Callable[[str, Mapping[str, Any], WorkerData], Any]:
    """A task function that runs the command."""

    def run(task_id: str, data: Mapping[str, Any], worker_data: WorkerData) -> Any:
        result_file = os.path.join(worker_data.scratch_dir, "result")
        values = {"task_id": task_id, "attempt": worker_data.attempt, "slot": worker_data.slot, **data}
        text = fill_in(command, {"scratch_dir": worker_data.scratch_dir, **values})
        own = {"CLOUD_TASKS_TASK_ID": task_id, "CLOUD_TASKS_RESULT_FILE": result_file}
        code = subprocess.run(
            ["/bin/sh", "-c", text], env=os.environ | own, stdin=subprocess.DEVNULL, check=False
        ).returncode
        if code != 0:
            _end_like(code)
        return False, _result(result_file)

    return run


def fill_in(command: str, values: Mapping[str, Any]) -> str:
    """The command with its placeholders replaced, each value quoted; a list becomes several words. ``{{`` is a brace.

    Raises:
        InputError: A placeholder names no field.
    """

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        value: Any = values
        for part in match[1].split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise InputError(f"the task's data has no field for {match[0]}", hint=f"there are {', '.join(values)}")
            value = value[part]
        if isinstance(value, (list, tuple)):
            return " ".join(_word(entry) for entry in value)
        return _word(value)

    return _PLACEHOLDER.sub(replace, command)


def _word(value: Any) -> str:
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


def _end_like(code: int) -> None:
    """End this process as the command ended. A shell reports a signal of its last command as 128 and its number."""
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
