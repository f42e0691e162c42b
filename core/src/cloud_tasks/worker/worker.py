"""`Worker`: the entry point of a user's program."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from cloud_tasks import exit_codes
from cloud_tasks.errors import InputError
from cloud_tasks.standard_streams import open_closed_streams
from cloud_tasks.worker.common.private_api import is_imported_by_multiprocessing, names_in_use
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.forkserver.spawn import TASK_MARK, become_task, is_main_thread, is_spawned
from cloud_tasks.worker.options import apply_options, extend_parser, make_parser, parse
from cloud_tasks.worker.task_function import adapt_function, check_callback

if TYPE_CHECKING:
    from cloud_tasks.worker.worker_config import Command

__all__ = ["Worker"]


class Worker:
    """Runs a function on tasks from a queue, a file or a generator, each in a process of its own.

    Args:
        function: ``function(task_id, task_data, worker_data)``, which returns the result or ``(retry, result)``. May be
            ``async``. A result is any value: it is converted to JSON, else pickled.
        task_source: Source of tasks if neither ``--task-file`` nor a queue is given: a path, a URL, or a function that
            returns or yields tasks.
        args: Command line; None for the program's own.
        argparser: Parser of the program, to which the worker's options are added; the result is ``worker_data.args``.
        worker_init: Called once with the `WorkerData`, in the fork server, before task processes are forked.
        on_termination_notice: Called once, in a thread, when the provider announces that it reclaims this instance.
        returns: ``pair``: a tuple of a boolean and a value is ``(retry, result)``, as in ``rms-cloud-tasks``.
            ``value``: whatever the function returns is the result.

    Invalid options and functions end the program with exit code 2, as `argparse` does.
    """

    def __init__(
        self,
        function: Callable[[str, Any, WorkerData], Any],
        *,
        task_source: Any = None,
        args: Sequence[str] | None = None,
        argparser: argparse.ArgumentParser | None = None,
        worker_init: Callable[[WorkerData], Any] | None = None,
        on_termination_notice: Callable[[], Any] | None = None,
        returns: Literal["pair", "value"] = "pair",
    ) -> None:
        open_closed_streams()
        parser = argparser or make_parser(description="Run tasks.")
        try:
            self._function = adapt_function(function, returns)
            check_callback(worker_init, "worker_init")
            check_callback(on_termination_notice, "on_termination_notice")
        except InputError as error:
            parser.exit(2, f"Error: {error}\n")
        extend_parser(parser)
        self._flags = SharedFlags()
        self.data = WorkerData(self._flags)
        self._parse(parser, args)
        self._task_source = task_source
        self._worker_init = worker_init
        self._on_termination_notice = on_termination_notice
        self._command: Command | None = None

    def _parse(self, parser: argparse.ArgumentParser, args: Sequence[str] | None) -> None:
        is_imported = is_imported_by_multiprocessing()
        try:
            with contextlib.redirect_stderr(io.StringIO()) if is_imported else contextlib.nullcontext():
                self.data.args = parse(parser, args)
                try:
                    apply_options(self.data, self.data.args)
                except InputError as error:
                    parser.error(str(error))
        except SystemExit:
            if not is_imported:
                raise
            # A server of multiprocessing imports the program without its command line.
            _, names = names_in_use(parser)
            self.data.args = argparse.Namespace(**{name: parser.get_default(name) for name in names})

    def set_task_source(self, task_source: Any) -> None:
        """Replace the ``task_source`` of the constructor. Call before `run`."""
        self._task_source = task_source

    def set_command(self, command: Command) -> None:
        """Set the shell command that the function runs. Call before `run`."""
        self._command = command

    async def start(self) -> None:
        """Run tasks until none is left or the worker is shut down; see `run`."""
        self.run()

    def run(self) -> None:
        """Run tasks until none is left or the worker is shut down.

        Return when all tasks are finished, a time limit is reached, or the provider reclaims the instance; at once in a
        child process in which multiprocessing imports the program.

        Raises:
            SystemExit: Code 1 for a fatal error or unfinished tasks, 2 for bad input such as an invalid task file, 3
                for more failed tasks than ``--accept-failures`` accepts, 130 and 143 for SIGINT and SIGTERM.
        """
        code = self._run()
        if code:
            raise SystemExit(code)

    def _run(self) -> int:
        from cloud_tasks.worker.worker_config import WorkerConfig

        if is_imported_by_multiprocessing():
            return exit_codes.COMPLETED
        if not is_main_thread():
            sys.stderr.write("error: a worker needs the main thread, which receives signals; call run there\n")
            return exit_codes.BAD_INPUT
        spawned = is_spawned()
        if spawned is None:
            return exit_codes.COMPLETED
        if not spawned and os.environ.get(TASK_MARK):
            sys.stderr.write(
                "error: a task has started a worker, or worker_init has; put the start of the worker below "
                f'if __name__ == "__main__":, or unset {TASK_MARK} to start it on purpose\n'
            )
            return exit_codes.BAD_INPUT
        try:
            config = WorkerConfig.of(self.data, self._task_source, is_task=spawned)
            forkserver = None if spawned else config.forkserver_config(self._function, self._worker_init, self._flags)
        except InputError as error:
            sys.stderr.write(f"error: {error}\n")
            return exit_codes.BAD_INPUT
        config.command = self._command
        if forkserver is None:
            become_task(self._function, self.data, self._worker_init)
        # A spawned task process has none of the following imports.
        from cloud_tasks.worker.forkserver.zygote import fork_zygote
        from cloud_tasks.worker.task_process.process_end import flush_files, forget_files

        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        flush_files()
        zygote = fork_zygote(forkserver, config.scratch_root)
        forget_files()
        # From here on this process is the supervisor; the zygote has none of the following imports. The collector need
        # not look at the program's objects, which stay until the worker ends, nor at what is being imported.
        gc.freeze()
        collects = gc.isenabled()
        gc.disable()
        from cloud_tasks.worker.supervisor.bootstrap import supervise

        if collects:
            gc.enable()
        try:
            return supervise(
                config,
                self.data,
                self._flags,
                zygote=zygote,
                on_termination_notice=self._on_termination_notice,
            )
        finally:
            gc.unfreeze()
