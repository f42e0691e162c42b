"""Help of a command with many options: its own options, then the configuration's, by topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

__all__ = ["TOPICS", "TopicCommand", "topic_of"]

TOPICS: Mapping[str, Sequence[str]] = {
    "Configuration": ("file", "provider", "set"),
    "Job": ("job_id", "queue_name", "exactly_once_queue", "db_file", "region", "zone", "image"),
    "Program": (
        "program", "requirements", "ship", "setup", "staging", "command", "shell", "environment", "secrets",
        "startup_script", "startup_script_file", "start_method", "reuse_processes",
    ),
    "Number and price of instances": (
        "min_instances", "max_instances", "min_total_cpus", "max_total_cpus", "min_simultaneous_tasks",
        "max_simultaneous_tasks", "min_total_price_per_hour", "max_total_price_per_hour", "max_total_cost",
        "use_spot", "spot_fallback", "prefer", "canary",
    ),
    "Instance types": (
        "instance_types", "architecture", "min_cpu", "max_cpu", "cpu_family", "min_cpu_rank", "max_cpu_rank",
        "cpu_family_speed", "min_gpus", "max_gpus", "gpu_types", "min_total_memory", "max_total_memory",
        "min_memory_per_cpu", "max_memory_per_cpu", "min_memory_per_task", "max_memory_per_task", "cpus_per_task",
        "min_tasks_per_instance", "max_tasks_per_instance",
    ),
    "Disks": (
        "boot_disk_types", "boot_disk_iops", "boot_disk_throughput", "total_boot_disk_size", "boot_disk_base_size",
        "boot_disk_per_cpu", "boot_disk_per_task", "min_local_ssd", "max_local_ssd", "local_ssd_base_size",
        "min_local_ssd_per_cpu", "max_local_ssd_per_cpu", "min_local_ssd_per_task", "max_local_ssd_per_task",
    ),
    "Limits and retries of tasks": (
        "max_runtime", "max_memory_allowed_per_task", "retry_on_exit", "retry_on_exception", "retry_on_timeout",
        "retry", "max_attempts", "max_losses", "accept_failures",
    ),
    "Results and logs": ("max_result_bytes", "result_store", "log_store", "event_spool_bytes"),
    "Life of instances and workers": (
        "scaling_check_interval", "instance_termination_delay", "max_parallel_instance_creations", "checks",
        "give_up_after", "max_concurrent_queue_operations", "keepalive_interval", "keepalive_startup_timeout",
        "keepalive_timeout", "shutdown_grace_period", "idle_limit", "max_lifetime", "on_error",
    ),
}  # fmt: skip
"""Keys of ``run`` by heading, in the order of the help."""

_OTHERS = "Other configuration"
_PLUGINS = "Plugins"


def topic_of(option: click.Parameter) -> str:
    """Return the heading of an option; empty for a command's own."""
    kind, _, rest = (option.name or "").partition("__")
    if kind != "configuration":
        return ""
    section, _, key = rest.partition("__")
    if section == "flag":
        return _PLUGINS
    return next((topic for topic, keys in TOPICS.items() if (key or section) in keys), _OTHERS)


class TopicCommand(click.Command):
    """A command whose help lists its own options first, and those of the configuration under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records: dict[str, list[tuple[str, str]]] = {topic: [] for topic in ("", *TOPICS, _OTHERS, _PLUGINS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                records[topic_of(parameter)].append(record)
        for topic, found in records.items():
            if found:
                with formatter.section(topic or "Options"):
                    formatter.write_dl(found)
