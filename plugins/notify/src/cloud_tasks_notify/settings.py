"""The configuration section ``webhook``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.plugin import setting
from cloud_tasks_notify.address import check_address
from cloud_tasks_notify.template import check_template

__all__ = ["NotifySettings"]


def _at_least(minimum: float) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
        if value < minimum:
            raise ValueError(f"must be at least {minimum:g}")

    return check


def _share(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 < value <= 1:
        raise ValueError("must be above 0, and at most 1")


def _shares(_: object, attribute: attrs.Attribute[Any], value: tuple[float, ...]) -> None:
    for share in value:
        _share(_, attribute, share)


def _address(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None:
        check_address(value)


def _template(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    check_template(value)


@attrs.frozen(kw_only=True)
class NotifySettings:
    url: str | None = setting(
        help="URL of the webhook, or an Apprise URL; preferably set by its variable",
        secret=True,
        default=None,
        validator=_address,
    )
    url_file: Path | None = setting(help="file with the URL, readable by its owner only", default=None)
    on_finish: bool = setting(help="whether to notify at the end of a run", default=True)
    failure_rate: float | None = setting(
        help="share of failed tasks, among the latest, that triggers a notification; none: never",
        default=0.2,
        validator=_share,
    )
    failure_window: int = setting(
        help="number of latest finished tasks for the failure rate",
        default=100,
        validator=_at_least(1),
    )
    failure_sample: int = setting(
        help="finished tasks required before the failure rate is evaluated", default=20, validator=_at_least(1)
    )
    budget: tuple[float, ...] = setting(
        help="shares of run.max_total_cost that trigger a notification when spent",
        default=(0.5, 0.8, 1.0),
        validator=_shares,
    )
    budget_projected: bool = setting(
        help="whether to notify when the projected total cost exceeds run.max_total_cost", default=True
    )
    field: str = setting(help="key of the text in the JSON object posted to a webhook", default="text")
    template: str = setting(
        help="text of a notification, with placeholders such as $message, $kind and $job_id",
        default="$message",
        validator=_template,
    )
    patience: float = setting(
        help="time limit for the last notification at the end of a run, in seconds",
        default=15.0,
        validator=_at_least(0),
    )
