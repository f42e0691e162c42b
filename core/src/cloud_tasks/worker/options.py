"""The worker's options: one table, from which the command line, the environment and `WorkerData` are filled.

An option's value is the first of: command line, ``CLOUD_TASKS_<NAME>``, ``RMS_CLOUD_TASKS_<NAME>``, its default.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from cloud_tasks.booleans import parse_boolean
from cloud_tasks.errors import InputError

__all__ = ["OPTIONS", "PREFIXES", "Option", "apply_options", "extend_parser", "make_parser"]

PREFIXES = ("CLOUD_TASKS_", "RMS_CLOUD_TASKS_")


def _whole(text: str) -> int:
    # Exports of other tools write a whole number as 4.0.
    return int(float(text)) if float(text).is_integer() else int(text)


class Option:
    """One option.

    Args:
        name: The attribute of `WorkerData`, and of the parsed arguments.
        kind: Makes the value from text; `parse_boolean` gives ``--x`` and ``--no-x``.
        help: One line, with the unit.
        env: The variable without its prefix; None: the name in capitals.
        flag: None: the name with dashes.
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
    Option("provider", str, "where this worker runs: local, gcp, aws or azure"),
    Option("queue", str, "the queue's backend; default: the provider's"),
    Option("compute", str, "the machine's backend; default: the provider's"),
    Option("project_id", str, "the project of the provider"),
    Option("task_file", str, "a file or URL with tasks, to be worked on here without a queue"),
    Option("job_id", str, "the job whose tasks are to be done"),
    Option("queue_name", str, "the queue's name; default: the job id"),
    Option("exactly_once_queue", parse_boolean, "whether the queue delivers exactly once", default=False),
    Option("event_log_file", str, "the file that events are appended to", default="events.log"),
    Option("event_log_to_file", parse_boolean, "whether events go to a file; default: with a local task source"),
    Option("event_log_to_queue", parse_boolean, "whether events go to the event queue; default: with a queue"),
    Option("event_sinks", str, "more places for events: names of sinks, separated by commas"),
    Option(
        "event_spool_dir",
        str,
        "a folder for reports that cannot be made at the moment, there only while it is needed",
        default="cloud-tasks-spool",
    ),
    Option("event_spool_bytes", _whole, "bytes that folder may have; 0: reports wait in memory", default=256 << 20),
    Option("keepalive_interval", float, "seconds between keep-alive events; 0: none", default=60.0),
    Option("instance_type", str, "the type of this machine"),
    Option("num_cpus", _whole, "how many vCPUs this machine has", env="INSTANCE_NUM_VCPUS"),
    Option("memory_gb", float, "its memory in GB", env="INSTANCE_MEM_GB", flag="--memory"),
    Option("local_ssd_gb", float, "its local SSD in GB", env="INSTANCE_SSD_GB", flag="--local-ssd"),
    Option("boot_disk_gb", float, "its boot disk in GB", env="INSTANCE_BOOT_DISK_GB", flag="--boot-disk"),
    Option("is_spot", parse_boolean, "whether it may be taken away", env="INSTANCE_IS_SPOT"),
    Option("price_per_hour", float, "its price in US dollars per hour", env="INSTANCE_PRICE", flag="--price"),
    Option(
        "num_simultaneous_tasks",
        _whole,
        "how many tasks run at a time; default: the number of vCPUs, or 1",
        env="NUM_TASKS_PER_INSTANCE",
    ),
    Option("max_runtime", float, "seconds that one attempt may take", default=3600.0),
    Option("timeout_kill_period", float, "seconds from SIGTERM to SIGKILL for one that takes longer", default=5.0),
    Option("max_memory_allowed_per_task", float, "GB of memory that the processes of one task may have"),
    Option("shutdown_grace_period", float, "seconds that running tasks have to end at a shutdown", default=30.0),
    Option("flush_period", float, "seconds that the last reports have to be made when the worker ends", default=60.0),
    Option("tasks_to_skip", _whole, "how many tasks at the start of the task file are left out", env="TO_SKIP"),
    Option("max_num_tasks", _whole, "how many tasks of the task file are done at most"),
    Option("resume", parse_boolean, "whether tasks that the event log says are complete are left out"),
    Option("retry_failed", parse_boolean, "whether only tasks that the event log says have failed are done"),
    Option("retry_on_exit", parse_boolean, "whether a task whose process ended early is run again"),
    Option("retry_on_exception", parse_boolean, "whether a task that raised an exception is run again"),
    Option("retry_on_timeout", parse_boolean, "whether a task that took too long is run again"),
    Option("max_attempts", _whole, "how often a task is run at most, its retries included", default=3),
    Option("max_losses", _whole, "how often a task may be lost through no fault of its own", default=10),
    Option("retry_rules", str, 'JSON list of rules, e.g. [{"on": "exit", "codes": [137], "attempts": 5}]'),
    Option("backoff_base", float, "seconds before the second attempt; doubled for each one after", default=1.0),
    Option("backoff_cap", float, "seconds before another attempt, at most", default=60.0),
    Option("idle_limit", float, "seconds without a task after which the worker ends; default: it waits for ever"),
    Option("max_lifetime", float, "seconds after which the worker ends"),
    Option("lease", float, "seconds for which a task is leased at a time", default=60.0),
    Option("max_result_bytes", _whole, "bytes that a result may have; default: what the event queue carries"),
    Option("result_store", str, "a folder or URL for results that are longer"),
    Option(
        "capture_output", parse_boolean, "whether what tasks print is kept for failure events; default: with a queue"
    ),
    Option("task_log_dir", str, "a folder with a file of what each attempt printed"),
    Option(
        "start_method",
        str,
        "fork: task processes are copies of the program; spawn: they are fresh interpreters; default: fork where "
        "that is safe",
    ),
    Option("log_store", str, "a folder or URL to which what each attempt printed is uploaded when it has ended"),
    Option("reuse_processes", _whole, "tasks that one process may do, one after the other, for tasks of milliseconds"),
    Option(
        "progress_interval", float, "seconds between two log lines on rate and remaining time; 0: none", default=30.0
    ),
    Option("gpus_per_task", _whole, "GPUs of each task, told to it as CUDA_VISIBLE_DEVICES"),
    Option("power_off_command", str, "a shell command that is run when the worker ends, e.g. to switch it off"),
    Option("notice_interval", float, "seconds between two looks for a termination notice", default=5.0),
    Option("simulate_spot_termination_after", float, "seconds after which a termination notice is simulated"),
    Option("simulate_spot_termination_delay", float, "seconds from that notice to the simulated end"),
)


def make_parser(*, description: str, prog: str | None = None, examples: Sequence[str] = ()) -> argparse.ArgumentParser:
    """A parser without options but ``--help``, which ends with the examples."""
    epilog = "\n".join(["Examples:", *(f"  {example}" for example in examples)]) if examples else None
    return _Parser(prog=prog, description=description, epilog=epilog, formatter_class=_Formatter)


def extend_parser(parser: argparse.ArgumentParser, options: Sequence[Option] = OPTIONS) -> None:
    """Add the options; one whose flag the program uses for something of its own is left to the program."""
    group = parser.add_argument_group("worker options")
    for option in options:
        if option.flag in parser._option_string_actions or any(a.dest == option.name for a in parser._actions):
            continue
        if option.kind is parse_boolean:
            group.add_argument(
                option.flag, dest=option.name, action=argparse.BooleanOptionalAction, default=None, help=option.help
            )
        else:
            group.add_argument(option.flag, dest=option.name, type=_checked(option), default=None, help=option.help)
    if "--verbose" not in parser._option_string_actions and "-v" not in parser._option_string_actions:
        group.add_argument("-v", "--verbose", action="count", default=0, help="log each task; twice: more")


def apply_options(data: Any, arguments: Any, environ: Mapping[str, str] = os.environ) -> None:
    """Set each option as an attribute of ``data``. Raises `InputError`."""
    for option in OPTIONS:
        value = getattr(arguments, option.name, None)
        setattr(data, option.name, value if value is not None else _from_environment(option, environ))
    data.verbose = int(getattr(arguments, "verbose", 0) or 0)


def parse(parser: argparse.ArgumentParser, args: Sequence[str] | None) -> argparse.Namespace:
    return parser.parse_args(sys.argv[1:] if args is None else list(args))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one line and exit code 2: to list all options would push the reason off the screen."""
        self.exit(2, f"Error: {message}; see {self.prog} --help\n")


class _Formatter(argparse.HelpFormatter):
    """As its base, which for the width of the terminal would load six compression libraries into every task process."""

    def __init__(self, prog: str, **options: Any) -> None:
        options.setdefault("width", _terminal_columns() - 2)
        super().__init__(prog, **options)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # Examples are lines, not words.
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

    convert.__name__ = {float: "number", _whole: "whole number"}.get(option.kind, "value")
    return convert


class _NegativeError(ValueError):
    """A number that has to be 0 or more."""


def _value(option: Option, text: str) -> Any:
    value = option.kind(text)
    # No number among the options means anything below 0, and "nan" is none.
    if isinstance(value, (int, float)) and not value >= 0:
        raise _NegativeError(f"{text} is not 0 or more")
    return value


def _from_environment(option: Option, environ: Mapping[str, str]) -> Any:
    for prefix in PREFIXES:
        text = environ.get(prefix + option.env)
        if text is not None and text.strip():
            try:
                return _value(option, text)
            except ValueError as error:
                raise InputError(f'"{text}" is no usable value', where=prefix + option.env, hint=str(error)) from error
    return option.default
