"""``cloud-tasks show-queue``: show the number of messages in a job's queues, and a sample message."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import attrs
import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.listing import echo_table
from cloud_tasks.cli.options.queues import NamedQueue, choice_options, depth_of, job_queues
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.config import JobConfig
from cloud_tasks.plugin import Depth, Queue
from cloud_tasks.registry import Registry
from cloud_tasks.tables import Column, plain_rows

__all__ = ["show_queue"]

_SAMPLE_WAIT = timedelta(seconds=5)


@attrs.frozen(kw_only=True)
class _Content:
    """State of a queue."""

    queue: NamedQueue
    depth: Depth | None
    """None: the queue does not exist."""
    sample: bytes | None = None


_COLUMNS: tuple[Column[_Content], ...] = (
    Column(name="queue", title="Queue", value=lambda q: q.queue.name),
    Column(name="kind", title="Holds", value=lambda q: f"{q.queue.kind}s"),
    Column(name="exists", title="Exists", value=lambda q: q.depth is not None),
    Column(name="visible", title="Queued", value=lambda q: q.depth and q.depth.visible, align_right=True),
    Column(name="in_flight", title="Leased", value=lambda q: q.depth and q.depth.in_flight, align_right=True),
    Column(name="exact", title="Exact", value=lambda q: q.depth and q.depth.exact),
    Column(name="as_of", title="As of", value=lambda q: q.depth and q.depth.as_of),
)


def show_queue(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "show-queue",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks show-queue --config config.yml",
            "cloud-tasks show-queue --config config.yml --detail",
            "cloud-tasks show-queue --provider gcp --queue-name sums --task-queue-only --json",
        ),
    )
    @click.option("--detail", is_flag=True, help="Show a sample message of each queue; it stays in the queue.")
    @json_option
    @choice_options
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Show the number of messages in a job's task queue and event queue."""
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        queues = job_queues(config, tasks_only=values["task_queue_only"], events_only=values["event_queue_only"])
        contents = [_read(queue, config, sample=values["detail"]) for queue in queues.chosen]
        if values["as_json"]:
            echo(json.dumps(_facts(contents, detail=values["detail"]), indent=2))
            return
        echo_table(contents, _COLUMNS)
        if values["detail"]:
            for content in contents:
                echo(f"\n{_described(content)}")

    return command


def _read(named: NamedQueue, config: JobConfig, *, sample: bool) -> _Content:
    with named.open(config) as queue:
        depth = depth_of(queue)
        # An inexact zero may be wrong.
        may_have_messages = depth is not None and (depth.visible != 0 or not depth.exact)
        message = _peek(queue) if sample and may_have_messages else None
    return _Content(queue=named, depth=depth, sample=message)


def _peek(queue: Queue) -> bytes | None:
    """Return the body of one message, which is released at once."""
    deliveries = queue.receive(1, wait=_SAMPLE_WAIT)
    queue.release([delivery.lease_id for delivery in deliveries])
    return deliveries[0].body if deliveries else None


def _facts(contents: list[_Content], *, detail: bool) -> list[dict[str, Any]]:
    rows = plain_rows(contents, _COLUMNS)
    if detail:
        rows = [{**row, "sample": _parsed(content.sample)} for row, content in zip(rows, contents, strict=True)]
    return rows


def _parsed(body: bytes | None) -> Any:
    """Return the JSON of a message, else its text."""
    if body is None:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def _described(content: _Content) -> str:
    if content.sample is None:
        return f"{content.queue.name}: no sample message"
    return f"{content.queue.name}: sample message\n{json.dumps(_parsed(content.sample), indent=2)}"
