"""Report that an instance cannot start: ``python -m cloud_tasks.worker.failed_start STEP REASON``.

The startup script of a shipped program runs it once the queue's library is installed, so that the controller need not
wait for a heartbeat that never comes. The settings are the worker's own variables.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from typing import Any

from cloud_tasks.errors import CloudTasksError

__all__: list[str] = []


def _main(step: str, reason: str) -> int:
    from cloud_tasks.worker.common.log import Log
    from cloud_tasks.worker.common.shared_flags import SharedFlags
    from cloud_tasks.worker.common.worker_data import WorkerData
    from cloud_tasks.worker.options import apply_options, make_parser, parse
    from cloud_tasks.worker.reporting.event_encoder import EventEncoder
    from cloud_tasks.worker.supervisor.delivered_secrets import delivered_variables
    from cloud_tasks.worker.supervisor.open_backends import OpenBackends
    from cloud_tasks.worker.worker_config import WorkerConfig

    data: Any = WorkerData(SharedFlags())
    data.args = parse(make_parser(description=__doc__ or ""), [])
    apply_options(data, data.args)
    log = Log(verbose=False)
    config = WorkerConfig.of(data, None, is_task=False)
    events = EventEncoder(run_id=data.run_id)
    environ = {**os.environ, **delivered_variables()}
    with ExitStack() as stack:
        backends = OpenBackends(config, data, environ=environ, registry=None, stack=stack, log=log)
        with suppress(CloudTasksError):
            events.set_instance_id(backends.instance_side().identity().instance_id)
        event = events.encode("fatal_exception", exception=f"{step}: {reason}", stack_trace="", start_step=step)
        for sink in backends.sinks:
            sink.write([event])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(_main(*sys.argv[1:]))
    except Exception as error:
        sys.stderr.write(f"the reason could not be reported as an event: {type(error).__name__}: {error}\n")
        sys.exit(1)
