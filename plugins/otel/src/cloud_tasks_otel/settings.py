"""The configuration section ``otel``."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import attrs

from cloud_tasks.plugin import setting

__all__ = ["OtelSettings"]


def _endpoint(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    if value is None:
        return
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected the base URL of a receiver, such as http://localhost:4318")
    if parts.username or parts.password:
        raise ValueError("must not contain a password; set OTEL_EXPORTER_OTLP_HEADERS instead")


def _positive(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if value <= 0:
        raise ValueError("must be above 0")


def _share(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError("must be between 0 and 1")


@attrs.frozen(kw_only=True)
class OtelSettings:
    endpoint: str | None = setting(
        help="base URL of the OTLP receiver; none: from the OTEL_* variables", default=None, validator=_endpoint
    )
    metrics: bool = setting(help="whether to send metrics", default=True)
    traces: bool = setting(help="whether to send traces", default=True)
    trace_share: float = setting(
        help="share of tasks whose attempts become spans; failed attempts always do",
        default=1.0,
        validator=_share,
    )
    queue: int = setting(help="maximum number of waiting spans", default=20_000, validator=_positive)
    patience: float = setting(
        help="time limit for sending the remaining data at the end of a run, in seconds",
        default=10.0,
        validator=_positive,
    )
