"""`Worker`: the object that a user's program makes and starts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.forkserver.spawn import become_task, is_spawned
from cloud_tasks.worker.options import apply_options, extend_parser, make_parser, parse
from cloud_tasks.worker.task_process.runner import Function

__all__ = ["Worker"]


class Worker:
    """Runs a function on tasks from a queue, a file or a generator, each in a process of its own.

    Args:
        function: ``function(task_id, task_data, worker_data)``; what it returns is the result, or a pair
            ``(retry, result)``. A result is anything that JSON can express.
        task_source: Where tasks come from when no ``--task-file`` and no queue is named: a path or URL, or a
            function that returns or yields tasks.
        args: The command line; None: the program's own.
        argparser: The program's parser, which is given the worker's options too; the outcome is ``worker_data.args``.
        worker_init: Called once with the `WorkerData`, in the process from which task processes are forked.
        on_termination_notice: Called once, in a thread, when the provider says that it will take this machine away.

    Options that cannot be understood end the program with exit code 2, as `argparse` does.
    """

    def __init__(
        self,
        function: Function,
        *,
        task_source: Any = None,
        args: Sequence[str] | None = None,
        argparser: argparse.ArgumentParser | None = None,
        worker_init: Callable[[WorkerData], Any] | None = None,
        on_termination_notice: Callable[[], Any] | None = None,
    ) -> None:
        parser = argparser or make_parser(description="Works on tasks.")
        extend_parser(parser)
        self._flags = SharedFlags()
        self.data = WorkerData(self._flags)
        self.data.args = parse(parser, args)
        try:
            apply_options(self.data, self.data.args)
        except InputError as error:
            parser.error(str(error))
        self._function = function
        self._task_source = task_source
        self._worker_init = worker_init
        self._on_termination_notice = on_termination_notice

    def set_task_source(self, task_source: Any) -> None:
        """Take tasks from here, as if it had been given at first; before `start`."""
        self._task_source = task_source

    async def start(self) -> None:
        """Work until there is nothing left to do or the worker is told to end; see `run`."""
        self.run()

    def run(self) -> None:
        """Work until there is nothing left to do or the worker is told to end.

        Returns when all is done, a limit of time is reached, or the machine is taken away.

        Raises:
            SystemExit: 1: something essential failed. 2: bad input, a broken task file included. 130, 143: ended by
                SIGINT or SIGTERM.
        """
        code = self._work()
        if code:
            raise SystemExit(code)

    def _work(self) -> int:
        from cloud_tasks.worker.forkserver.zygote import fork_zygote
        from cloud_tasks.worker.worker_config import WorkerConfig

        spawned = is_spawned()
        if spawned is None:
            return 0
        try:
            plan = WorkerConfig.of(self.data, self._task_source, is_task=spawned)
        except InputError as error:
            sys.stderr.write(f"error: {error}\n")
            return 2
        if spawned:
            become_task(self._function, self.data, self._worker_init)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        end = fork_zygote(plan.order(self._function, self._worker_init, self._flags), plan.scratch_root)
        # Only this process goes on from here, and only it imports what follows.
        from cloud_tasks.worker.supervisor.bootstrap import supervise

        return supervise(
            plan,
            self.data,
            self._flags,
            end=end,
            on_termination_notice=self._on_termination_notice,
        )
