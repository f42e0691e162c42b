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
        raise ValueError("has to be the base address of a receiver, e.g. http://localhost:4318")
    if parts.username or parts.password:
        raise ValueError("must hold no password; set OTEL_EXPORTER_OTLP_HEADERS instead")


def _positive(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if value <= 0:
        raise ValueError("must be above 0")


def _share(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError("must be between 0 and 1")


@attrs.frozen(kw_only=True)
class OtelSettings:
    endpoint: str | None = setting(
        help="base address of the OTLP receiver; none: as the OTEL_* variables say", default=None, validator=_endpoint
    )
    metrics: bool = setting(help="whether to send metrics", default=True)
    traces: bool = setting(help="whether to send traces", default=True)
    trace_share: float = setting(
        help="share of tasks whose attempts become spans; attempts that did not complete always do",
        default=1.0,
        validator=_share,
    )
    queue: int = setting(help="spans that may wait to be sent", default=20_000, validator=_positive)
    patience: float = setting(
        help="seconds that the end of a run waits for what is to be sent", default=10.0, validator=_positive
    )
