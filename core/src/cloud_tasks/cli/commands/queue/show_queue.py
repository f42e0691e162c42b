"""``cloud-tasks show-queue``: how many messages the queues of a job hold, and what one looks like."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import attrs
import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.queues import NamedQueue, choice_options, chosen_queues, depth_of
from cloud_tasks.config import JobConfig
from cloud_tasks.plugin import Depth, Queue
from cloud_tasks.registry import Registry
from cloud_tasks.report.tables.layout import Column, plain_rows, render_table

__all__ = ["show_queue"]

_SAMPLE_WAIT = timedelta(seconds=5)


@attrs.frozen(kw_only=True)
class _Look:
    """What was seen of a queue."""

    queue: NamedQueue
    depth: Depth | None
    """None: there is no such queue."""
    sample: bytes | None = None


_COLUMNS: tuple[Column[_Look], ...] = (
    Column(name="queue", title="Queue", value=lambda look: look.queue.name),
    Column(name="kind", title="Holds", value=lambda look: f"{look.queue.kind}s"),
    Column(name="exists", title="Exists", value=lambda look: look.depth is not None),
    Column(name="visible", title="Waiting", value=lambda look: look.depth and look.depth.visible, to_the_right=True),
    Column(name="in_flight", title="Leased", value=lambda look: look.depth and look.depth.in_flight, to_the_right=True),
    Column(name="exact", title="Exact", value=lambda look: look.depth and look.depth.exact),
    Column(name="as_of", title="As of", value=lambda look: look.depth and look.depth.as_of),
)


def show_queue(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "show-queue",
        epilog=examples(
            "cloud-tasks show-queue --config config.yml",
            "cloud-tasks show-queue --config config.yml --detail",
            "cloud-tasks show-queue --provider gcp --queue-name sums --task-queue-only --json",
        ),
    )
    @click.option("--detail", is_flag=True, help="Show a message of each queue too; it stays in the queue.")
    @json_option
    @choice_options
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Show how many messages the task queue and the event queue of a job hold."""
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        queues = chosen_queues(config, tasks_only=values["task_queue_only"], events_only=values["event_queue_only"])
        looks = [_look(queue, config, sample=values["detail"]) for queue in queues]
        if values["as_json"]:
            click.echo(json.dumps(_facts(looks, detail=values["detail"]), indent=2))
            return
        click.echo(render_table(looks, _COLUMNS))
        if values["detail"]:
            for look in looks:
                click.echo(f"\n{_described(look)}")

    return command


def _look(named: NamedQueue, config: JobConfig, *, sample: bool) -> _Look:
    with named.open(config) as queue:
        depth = depth_of(queue)
        # Where the number is not exact, zero may be wrong.
        worth_a_try = depth is not None and (depth.visible != 0 or not depth.exact)
        message = _borrow(queue) if sample and worth_a_try else None
    return _Look(queue=named, depth=depth, sample=message)


def _borrow(queue: Queue) -> bytes | None:
    """The body of one message, which is given back at once."""
    deliveries = queue.receive(1, wait=_SAMPLE_WAIT)
    queue.release([delivery.lease_id for delivery in deliveries])
    return deliveries[0].body if deliveries else None


def _facts(looks: list[_Look], *, detail: bool) -> list[dict[str, Any]]:
    rows = plain_rows(looks, _COLUMNS)
    if detail:
        rows = [{**row, "sample": _content(look.sample)} for row, look in zip(rows, looks, strict=True)]
    return rows


def _content(body: bytes | None) -> Any:
    """What a message says: the JSON that it holds, else its text."""
    if body is None:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def _described(look: _Look) -> str:
    if look.sample is None:
        return f"{look.queue.name}: no message to show"
    return f"{look.queue.name}: one message\n{json.dumps(_content(look.sample), indent=2)}"
