"""Options of the worker: one table for the command line, the environment and `WorkerData`.

An option's value is the first of: command line, ``CLOUD_TASKS_<NAME>``, ``RMS_CLOUD_TASKS_<NAME>``, default.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from cloud_tasks import exit_codes
from cloud_tasks.booleans import parse_boolean
from cloud_tasks.errors import InputError
from cloud_tasks.worker.common.private_api import names_in_use

__all__ = ["OPTIONS", "PREFIXES", "Option", "apply_options", "extend_parser", "make_parser"]

PREFIXES = ("CLOUD_TASKS_", "RMS_CLOUD_TASKS_")


def _whole(text: str) -> int:
    # Other tools may write a whole number as 4.0.
    return int(float(text)) if float(text).is_integer() else int(text)


_KIND_NAMES: dict[Callable[[str], Any], str] = {float: "number", _whole: "whole number"}


class Option:
    """One option.

    Args:
        name: Name of the attribute of `WorkerData`, and of the parsed arguments.
        kind: Converts text to the value; with `parse_boolean` there are ``--x`` and ``--no-x``.
        help: One line, with the unit.
        env: Name of the variable without its prefix; None for the name in capitals.
        flag: Option on the command line; None for the name with dashes.
    """

    __slots__ = ("default", "env", "flag", "help", "kind", "name")

    def __init__(
        self,
        name: str,
        kind: Callable[[str], Any],
        help: str,
        *,
        default: Any = None,
        env: str | None = None,
        flag: str | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.default = default
        self.env = env or name.upper()
        self.flag = flag or "--" + name.replace("_", "-")


OPTIONS: tuple[Option, ...] = (
    Option("provider", str, "provider that this worker runs on: local, gcp, aws or azure"),
    Option("queue", str, "backend of the task queue; default: the provider's"),
    Option("compute", str, "backend of this instance; default: the provider's"),
    Option("project_id", str, "project of the provider"),
    Option("task_file", str, "file or URL with tasks, to be run without a queue"),
    Option("job_id", str, "job whose tasks to run"),
    Option("run_id", str, "run of the job, named in every event: the controller accepts events of its own run only"),
    Option("queue_name", str, "full name of the task queue, as `cloud-tasks status` shows it"),
    Option("event_log_queue_name", str, "full name of the event queue; default: <queue name>-events"),
    Option("exactly_once_queue", parse_boolean, "whether the queue delivers exactly once", default=False),
    Option("event_log_file", str, "file to which events are appended", default="events.log"),
    Option("event_log_to_file", parse_boolean, "whether events go to a file; default: with a local task source"),
    Option("event_log_to_queue", parse_boolean, "whether events go to the event queue; default: with a queue"),
    Option("event_sinks", str, "additional event sinks: names separated by commas"),
    Option(
        "event_spool_dir",
        str,
        "folder for reports that cannot be sent at the moment, which exists only while there are any",
        default="cloud-tasks-spool",
    ),
    Option("event_spool_bytes", _whole, "maximum bytes in that folder; 0: reports wait in memory", default=256 << 20),
    Option("keepalive_interval", float, "seconds between heartbeat events; 0: none", default=60.0),
    Option("instance_type", str, "instance type of this instance"),
    Option("num_cpus", _whole, "number of vCPUs of this instance", env="INSTANCE_NUM_VCPUS"),
    Option("memory_gb", float, "memory of this instance in GB", env="INSTANCE_MEM_GB", flag="--memory"),
    Option("local_ssd_gb", float, "local SSD of this instance in GB", env="INSTANCE_SSD_GB", flag="--local-ssd"),
    Option("boot_disk_gb", float, "boot disk of this instance in GB", env="INSTANCE_BOOT_DISK_GB", flag="--boot-disk"),
    Option("is_spot", parse_boolean, "whether this is a spot instance", env="INSTANCE_IS_SPOT"),
    Option(
        "price_per_hour", float, "price of this instance in US dollars per hour", env="INSTANCE_PRICE", flag="--price"
    ),
    Option(
        "num_simultaneous_tasks",
        _whole,
        "number of tasks that run at a time; default: the number of vCPUs, or 1",
        env="NUM_TASKS_PER_INSTANCE",
    ),
    Option("max_runtime", float, "time limit of an attempt in seconds", default=3600.0),
    Option(
        "timeout_kill_period", float, "seconds from SIGTERM to SIGKILL for an attempt over its time limit", default=5.0
    ),
    Option("max_memory_allowed_per_task", float, "memory limit of the processes of one task in GB"),
    Option("shutdown_grace_period", float, "seconds that running tasks have at a shutdown", default=30.0),
    Option("flush_period", float, "time limit in seconds for the last reports when the worker ends", default=60.0),
    Option("tasks_to_skip", _whole, "number of tasks to skip at the start of the task file", env="TO_SKIP"),
    Option("max_num_tasks", _whole, "maximum number of tasks to run from the task file"),
    Option("allow_empty", parse_boolean, "whether to accept a task file without tasks", default=False),
    Option("resume", parse_boolean, "whether to skip tasks that the event log shows as completed"),
    Option("retry_failed", parse_boolean, "whether to run only tasks that the event log shows as failed"),
    Option("retry_on_exit", parse_boolean, "whether to retry a task whose process exited early"),
    Option("retry_on_exception", parse_boolean, "whether to retry a task that raised an exception"),
    Option("retry_on_timeout", parse_boolean, "whether to retry a task that exceeded its time limit"),
    Option("max_attempts", _whole, "maximum number of attempts of a task, including retries", default=3),
    Option("max_losses", _whole, "maximum number of interrupted attempts of a task", default=10),
    Option(
        "accept_failures",
        str,
        "failed tasks with which the worker still exits with code 0: a number, or a percentage",
        default="0",
    ),
    Option("retry_rules", str, 'JSON list of rules, e.g. [{"on": "exit", "codes": [137], "attempts": 5}]'),
    Option(
        "earlier_attempts", _whole, "attempts of earlier runs of the job, which do not lengthen a backoff", default=0
    ),
    Option("backoff_base", float, "seconds before the second attempt; doubled for each further one", default=1.0),
    Option("backoff_cap", float, "maximum seconds before another attempt", default=60.0),
    Option("idle_limit", float, "seconds without a task after which the worker ends; default: no limit"),
    Option("max_lifetime", float, "seconds after which the worker ends; default: no limit"),
    Option("drain_after", float, "seconds after which the worker takes no further tasks; default: no limit"),
    Option("lease", float, "duration of a task's lease in seconds; extended while needed", default=60.0),
    Option(
        "max_result_bytes", _whole, "maximum bytes of a result in an event; default: what fits into the event queue"
    ),
    Option("result_store", str, "folder or URL for longer results, as .json or .pickle files"),
    Option(
        "capture_output",
        parse_boolean,
        "whether events include the end of a task's output; default: those of failures and commands, with a queue",
    ),
    Option("task_log_dir", str, "folder for a log file of each attempt's output"),
    Option(
        "start_method",
        str,
        "fork: task processes are copies of the program; spawn: they are fresh interpreters; default: fork where "
        "it is safe",
    ),
    Option("log_store", str, "folder or URL to which the log of each finished attempt is uploaded"),
    Option("reuse_processes", _whole, "number of tasks per process, for tasks of milliseconds; default: 1"),
    Option("progress_interval", float, "seconds between log lines with rate and remaining time; 0: none", default=30.0),
    Option("gpus_per_task", _whole, "GPUs per task, assigned by CUDA_VISIBLE_DEVICES"),
    Option("power_off_command", str, "shell command to run when the worker ends, e.g. to power off the instance"),
    Option("notice_interval", float, "seconds between checks for a termination notice", default=5.0),
    Option("simulate_spot_termination_after", float, "seconds after which a termination notice is simulated"),
    Option("simulate_spot_termination_delay", float, "seconds from the simulated notice to the termination"),
)


def make_parser(*, description: str, prog: str | None = None, examples: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return a parser with the option ``--help`` only, whose text ends with the examples."""
    epilog = "\n".join(["Examples:", *(f"  {example}" for example in examples)]) if examples else None
    return _Parser(prog=prog, description=description, epilog=epilog, formatter_class=_Formatter)


def extend_parser(parser: argparse.ArgumentParser, options: Sequence[Option] = OPTIONS) -> None:
    """Add the options, except those whose flag or name the program uses itself."""
    group = parser.add_argument_group("worker options")
    flags, names = names_in_use(parser)
    for option in options:
        if option.flag in flags or option.name in names:
            continue
        if option.kind is parse_boolean:
            group.add_argument(
                option.flag, dest=option.name, action=argparse.BooleanOptionalAction, default=None, help=option.help
            )
        else:
            group.add_argument(option.flag, dest=option.name, type=_checked(option), default=None, help=option.help)
    if not flags & {"--verbose", "-v"}:
        group.add_argument("-v", "--verbose", action="count", default=0, help="log each task")


def apply_options(data: Any, arguments: Any, environ: Mapping[str, str] = os.environ) -> None:
    """Set the value of each option as an attribute of ``data``.

    Raises:
        InputError: The value of an environment variable is invalid.
    """
    for option in OPTIONS:
        value = getattr(arguments, option.name, None)
        setattr(data, option.name, value if value is not None else _from_environment(option, environ))
    data.verbose = int(getattr(arguments, "verbose", 0) or 0)


def parse(parser: argparse.ArgumentParser, args: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; None for the program's own."""
    return parser.parse_args(sys.argv[1:] if args is None else list(args))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and one line: a list of all options would scroll the reason off the screen."""
        self.exit(exit_codes.BAD_INPUT, f"Error: {message}; see {self.prog} --help\n")


class _Formatter(argparse.HelpFormatter):
    """Formatter that reads the width of the terminal itself.

    Its base class would load six compression modules into every task process for that.
    """

    def __init__(self, prog: str, **options: Any) -> None:
        options.setdefault("width", _terminal_columns() - 2)
        super().__init__(prog, **options)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # Examples keep their lines.
        return text if "\n" in text else super()._fill_text(text, width, indent)


def _terminal_columns() -> int:
    try:
        return int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size().columns or 80
    except OSError:
        return 80


def _checked(option: Option) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return _value(option, text)
        except _NegativeError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    # argparse names the value in its own message by this.
    convert.__name__ = _KIND_NAMES.get(option.kind, "value")
    return convert


class _NegativeError(ValueError):
    """A number below 0, or not a number."""


def _value(option: Option, text: str) -> Any:
    value = option.kind(text)
    # No option accepts a number below 0. The comparison also rejects "nan".
    if isinstance(value, (int, float)) and not value >= 0:
        raise _NegativeError(f"expected 0 or more, got {text}")
    return value


def _from_environment(option: Option, environ: Mapping[str, str]) -> Any:
    for prefix in PREFIXES:
        text = environ.get(prefix + option.env)
        if text is not None and text.strip():
            try:
                return _value(option, text)
            except ValueError as error:
                is_number = option.kind in _KIND_NAMES and not isinstance(error, _NegativeError)
                reason = f'expected a {_KIND_NAMES[option.kind]}, got "{text}"' if is_number else str(error)
                raise InputError(reason, where=prefix + option.env) from error
    return option.default
