"""The configuration sections of the event sinks that come with core. Imports nothing that a worker would not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.plugin import setting

__all__ = ["SqliteSettings", "WebhookSettings"]


def _at_least(least: float) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
        if value < least:
            raise ValueError(f"must be at least {least:g}")

    return check


def _share(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 < value <= 1:
        raise ValueError("must be above 0, and at most 1")


def _shares(_: object, attribute: attrs.Attribute[Any], value: tuple[float, ...]) -> None:
    for share in value:
        _share(_, attribute, share)


def _address(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    from cloud_tasks.builtin.webhook_address import check_address

    if value is not None:
        check_address(value)


def _template(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    from cloud_tasks.builtin.webhook_notes import check_template

    check_template(value)


@attrs.frozen(kw_only=True)
class SqliteSettings:
    """Section ``sqlite``."""

    file: Path | None = setting(
        help="the database file; relative to the current directory; none: <job id>-events.sqlite", default=None
    )


@attrs.frozen(kw_only=True)
class WebhookSettings:
    """Section ``webhook``."""

    url: str | None = setting(
        help="the address that messages are posted to; better set by its variable",
        secret=True,
        default=None,
        validator=_address,
    )
    url_file: Path | None = setting(
        help="a file that holds the address and that nobody but its owner may read", default=None
    )
    on_finish: bool = setting(help="whether to tell of the end of a run", default=True)
    failure_rate: float | None = setting(
        help="share of failed tasks, among the latest, from which on it is told; none: never",
        default=0.2,
        validator=_share,
    )
    failure_window: int = setting(
        help="how many tasks that ended last the failure rate is taken from", default=100, validator=_at_least(1)
    )
    failure_sample: int = setting(
        help="tasks that have to have ended before a failure rate is told", default=20, validator=_at_least(1)
    )
    budget: tuple[float, ...] = setting(
        help="shares of run.max_total_cost at which it is told", default=(0.5, 0.8, 1.0), validator=_shares
    )
    budget_projected: bool = setting(
        help="whether to tell when the job is expected to exceed run.max_total_cost", default=True
    )
    field: str = setting(help="the key of the text in the JSON object that is posted", default="text")
    template: str = setting(
        help="the text; $message, $kind, $job_id and other names stand for what they say",
        default="$message",
        validator=_template,
    )
    patience: float = setting(
        help="seconds that the end of a run waits for the last message", default=15.0, validator=_at_least(0)
    )
