"""Workers whose tasks are shell commands, without a Python program.

Placeholders in the command (``{seed}``, ``{task_id}``) stand for the task's data, which is handed over as data
(`cloud_tasks.command_template`). Exit code 0 means success. The content of the file that ``CLOUD_TASKS_RESULT_FILE``
names is the result: JSON, or else text. The file that ``CLOUD_TASKS_DATA_FILE`` names has the task's data as JSON.

Invariants, each with a test:

1. A value of a task's data becomes part of a word of the command, never shell syntax.
2. The exit code or signal of a failed command is reported, also of a program within a pipeline.
3. A command that cannot be executed safely, or has an unknown placeholder, ends the worker before its first task.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cloud_tasks.command_template import CommandTemplate, shell_line
from cloud_tasks.errors import InputError
from cloud_tasks.worker.common.os_errors import mark_own_failure, os_error_text
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.options import PREFIXES, make_parser
from cloud_tasks.worker.worker import Worker

__all__ = ["ShellCommand", "run_command_worker"]

_SHELLS = ("bash", "sh")
_BASH = "/bin/bash"
_MAX_RESULT = 100 << 20
"""Bytes of a result file that are read; results over ``max_result_bytes`` are handled like those of Python tasks."""
_SIGPIPE_EXIT = 128 + signal.SIGPIPE
_SIGPIPE_REASON = (
    "SIGPIPE: a program of a pipeline wrote after its reader had ended, as before `| head`; "
    "to accept this, write { program || [ $? -eq 141 ]; } | head"
)
_LONG_HINT = "let the program read the file that CLOUD_TASKS_DATA_FILE names"
_REPORTED_SIGNALS = (
    signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGKILL,
)  # fmt: skip


def run_command_worker(args: Sequence[str], *, program: str = "cloud-tasks worker") -> None:
    """Run a worker whose tasks are commands: ``--command``, ``--param`` and the worker's options.

    Raises:
        SystemExit: As `Worker.run`.
    """
    parser = _make_parser(program)
    # The worker needs the function before it has parsed the command.
    commands: list[ShellCommand] = []
    worker = Worker(
        lambda task_id, data, worker_data: commands[0](task_id, data, worker_data),
        task_source=None,
        args=args,
        argparser=parser,
        worker_init=lambda data: commands[0].prepare(data),
    )
    # The output of a command is a product of it as much as its result is.
    worker.data._keeps_output = True
    text, where = _option(worker.data.args.command, "COMMAND", "--command")
    if not text.strip():
        parser.error("no command; add --command 'program {input}'")
    shell, named = _option(worker.data.args.shell, "SHELL", "--shell")
    try:
        commands.append(ShellCommand(text, shell=_shell(shell, named), where=where))
    except InputError as error:
        parser.error(str(error))
    worker.set_command(commands[0])
    if worker.data.args.param:
        if getattr(worker.data, "task_file", None) is not None:
            parser.error("--param and --task-file exclude each other; give one of them")
        worker.set_task_source(_ParameterGrid(worker.data.args.param))
    worker.run()


def _make_parser(program: str) -> argparse.ArgumentParser:
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
        help="command to run; {name} stands for a field of the task's data, {task_id} for its id",
    )
    parser.add_argument(
        "--shell",
        choices=_SHELLS,
        default=None,
        help="shell that runs the command: bash -euo pipefail, or sh; default: bash if it is installed",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="create a task for each combination of values, e.g. seed=1..100 or mode=fast,slow; text with commas in "
        "quotes: name='\"a, b\",c'",
    )
    return parser


class _ParameterGrid:
    """The task source of ``--param``; the slow imports are left to the process that reads it."""

    def __init__(self, parameters: Sequence[str]) -> None:
        self._parameters = parameters

    def __iter__(self) -> Iterator[Any]:
        return iter(self._source())

    def expected_length(self) -> int | None:
        found: int | None = self._source().expected_length()
        return found

    def _source(self) -> Any:
        from cloud_tasks.builtin import parameter_grid

        return parameter_grid(self._parameters)


def _option(given: str | None, name: str, flag: str) -> tuple[str, str]:
    """Return the value of an option, or else of its environment variable, and where it is from."""
    if given:
        return given, flag
    for prefix in PREFIXES:
        if value := os.environ.get(f"{prefix}{name}"):
            return value, f"{prefix}{name}"
    return "", flag


def _shell(name: str, where: str) -> str:
    """Return the path of a shell; of bash, or else sh, without a name."""
    if name not in ("", *_SHELLS):
        raise InputError(f'expected bash or sh, got "{name}"', where=where)
    if name == "sh":
        return "/bin/sh"
    if os.path.exists(_BASH):
        return _BASH
    import shutil

    found = shutil.which("bash")
    if found is None and name == "bash":
        raise InputError("bash is not installed", where=where, hint="install it, or use sh")
    return found or "/bin/sh"


class ShellCommand:
    """The function of a worker whose tasks run a command.

    Args:
        shell: Path of bash or of another POSIX shell.
        where: Location of the command, for messages.
    """

    def __init__(self, text: str, *, shell: str, where: str = "") -> None:
        self._is_bash = os.path.basename(shell) == "bash"
        self._shell = [shell, "-euo", "pipefail"] if self._is_bash else [shell]
        self._template = CommandTemplate(text, is_bash=self._is_bash, where=where)

    def prepare(self, worker_data: WorkerData) -> None:
        """Parse the command before task processes are forked."""
        self._template.prepare()

    def check(self, task_id: str, data: Mapping[str, Any]) -> None:
        """Check the command with the data of a task. Raises `InputError` as `CommandTemplate.check`."""
        self._template.check(self._template.values(task_id, data))

    def line(self, task_id: str, data: Mapping[str, Any], *, attempt: int, slot: int | None, scratch: str) -> str:
        """Return the command of an attempt with the values filled in, of bounded length; empty if it cannot be run."""
        try:
            values = self._template.values(task_id, data, attempt=attempt, slot=slot, scratch=scratch)
        except InputError:
            return ""
        return shell_line(self._template, values)

    def __call__(self, task_id: str, data: Mapping[str, Any], worker_data: WorkerData) -> Any:
        """Run the command for a task; exit as it does if it fails."""
        scratch = worker_data.scratch_dir
        values = self._template.values(
            task_id, data, attempt=worker_data.attempt, slot=worker_data.slot, scratch=scratch
        )
        script, arguments = self._template.invocation(values)
        data_file, result_file = os.path.join(scratch, "data.json"), os.path.join(scratch, "result")
        with open(data_file, "w", encoding="utf-8") as file:
            json.dump(data, file)
        environment = os.environ | {
            "CLOUD_TASKS_TASK_ID": task_id,
            "CLOUD_TASKS_DATA_FILE": data_file,
            "CLOUD_TASKS_RESULT_FILE": result_file,
        }
        name = "bash" if self._is_bash else "sh"
        command = [part.encode("utf-8", "surrogateescape") for part in (*self._shell, "-c", script, name, *arguments)]
        _check_size(command, environment)
        try:
            code = subprocess.run(
                command,
                env=environment,
                cwd=os.environ.get("CLOUD_TASKS_SUBMIT_DIR") or None,
                stdin=subprocess.DEVNULL,
                check=False,
            ).returncode
        except OSError as error:
            # A command that is too long is the task's own failure.
            if error.errno == errno.E2BIG:
                raise InputError("the values of the command are too long for the system", hint=_LONG_HINT) from None
            mark_own_failure(error, "cannot start the shell")
            raise
        if code != 0:
            _exit_like(code)
        return False, _result(result_file)


def _check_size(command: Sequence[bytes], environment: Mapping[str, str]) -> None:
    """Raise `InputError` if the arguments are too long for the system."""
    size = sum(len(part) + 9 for part in command)
    used = sum(len(os.fsencode(name)) + len(os.fsencode(value)) + 10 for name, value in environment.items())
    limit = os.sysconf("SC_ARG_MAX") - used - 4096
    longest = max(len(part) for part in command)
    if size > limit or longest >= 128 * 1024:
        raise InputError(
            f"the command has {size:,} bytes with its values; the system accepts {min(limit, 128 * 1024):,}"
            if size <= limit
            else f"the values of the command have {size:,} bytes; the system accepts {limit:,}",
            hint=_LONG_HINT,
        )


def _exit_like(code: int) -> None:
    """Exit like the command. A shell exits with 128 plus the number of the signal that ended its last command."""
    if code == _SIGPIPE_EXIT:
        os.write(2, f"{_SIGPIPE_REASON}\n".encode())
    number = -code if code < 0 else code - 128
    if number in _REPORTED_SIGNALS or code < 0:
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)
    os._exit(code & 0xFF)


def _result(path: str) -> Any:
    """Return the result in a file; None without one. A link, pipe or device is never read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8", errors="replace", newline="") as file:
            found = os.fstat(descriptor)
            text = file.read(_MAX_RESULT + 1) if stat.S_ISREG(found.st_mode) and found.st_size <= _MAX_RESULT else None
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise _odd_result("not a regular file") from None
    except OSError as error:
        is_link = error.errno == errno.ELOOP
        raise _odd_result("a symbolic link, not a regular file" if is_link else os_error_text(error)) from error
    if text is None and not stat.S_ISREG(found.st_mode):
        raise _odd_result("not a regular file")
    if text is None or len(text) > _MAX_RESULT:
        raise _odd_result(f"{found.st_size:,} bytes; the limit is {_MAX_RESULT:,}")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_float=_float)
    except (ValueError, RecursionError):
        return text.rstrip("\n")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raise `ValueError` if two of its keys are equal."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("equal keys")
    return found


def _float(text: str) -> float:
    """Return a JSON number. Raise `ValueError` if it is larger than any float."""
    number = float(text)
    if math.isinf(number):
        raise ValueError("no float")
    return number


def _odd_result(problem: str) -> InputError:
    hint = "write the result to this file, and larger output to files of its own"
    return InputError(problem, where="CLOUD_TASKS_RESULT_FILE", hint=hint)
