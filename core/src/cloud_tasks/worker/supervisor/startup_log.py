"""Log of the configuration when a worker starts."""

from __future__ import annotations

from typing import Any

from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.worker_config import WorkerConfig

__all__ = ["log_configuration"]


def log_configuration(log: Log, data: Any, config: WorkerConfig) -> None:
    """Log every option that changes the worker's behaviour."""
    for line in ("Configuration:", *(f"  {line}" for line in _lines(data, config))):
        log.hold(line)
    log.flush()


def _lines(data: Any, config: WorkerConfig) -> list[str]:
    lines = []
    if config.source is None:
        lines.append(f'Using the task queue: "{data.queue_name}" ({config.queue_backend})')
    elif data.task_file is not None:
        lines.append(f'Using local tasks file: "{data.task_file}"')
    elif callable(config.source):
        lines.append(f"Using the task factory: {getattr(config.source, '__name__', config.source)}")
    else:
        lines.append(f'Using local tasks source: "{config.source}"')
    if config.source is not None:
        lines += [f"Tasks to skip: {data.tasks_to_skip}", f"Maximum number of tasks: {data.max_num_tasks}"]
    slots = "Num simultaneous tasks" if data.slots_were_given else "Num simultaneous tasks (default)"
    lines += [
        f"Provider: {data.provider}",
        f"Project ID: {data.project_id}",
        f"Job ID: {data.job_id}",
        f"Queue name: {data.queue_name}",
        f"Exactly-once queue: {data.exactly_once_queue}",
        f"Event log to file: {data.event_log_to_file}",
    ]
    if data.event_log_to_file:
        lines.append(f"Event log file: {data.event_log_file}")
    lines += [
        f"Event log to queue: {data.event_log_to_queue}",
        f"Instance type: {data.instance_type}",
        f"Num CPUs: {data.num_cpus}",
        f"Memory: {data.memory_gb} GB",
        f"Local SSD: {data.local_ssd_gb} GB",
        f"Boot disk size: {data.boot_disk_gb} GB",
        f"Spot instance: {data.is_spot}",
        f"Price per hour: {data.price_per_hour}",
        f"{slots}: {data.num_simultaneous_tasks}",
        f"Maximum runtime: {data.max_runtime:g} seconds",
        f"Shutdown grace period: {data.shutdown_grace_period:g} seconds",
        f"Retry on exit: {data.retry_on_exit}",
        f"Retry on exception: {data.retry_on_exception}",
        f"Retry on timeout: {data.retry_on_timeout}",
    ]
    return lines
