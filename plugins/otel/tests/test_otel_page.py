"""The README of the distribution agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks_otel.settings import OtelSettings
from cloud_tasks_otel.traces import OUTCOMES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SOURCES = Path(__file__).parents[1] / "src" / "cloud_tasks_otel"


def names(pattern: str, text: str) -> set[str]:
    return set(re.findall(pattern, text))


def test_readme_lists_every_setting() -> None:
    rows = README.partition("## Settings")[2].partition("## What is sent")[0]
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(OtelSettings)
    listed = names(r"`(\w+)`", "".join(line.split("|")[1] for line in rows.splitlines() if line.startswith("| `")))
    assert listed == {field.name for field in fields}


def test_readme_lists_every_metric_and_outcome() -> None:
    rows = README.partition("| metric |")[2].partition("\n\n")[0]
    made = names(r'"(cloud_tasks\.[a-z._]+)"', (SOURCES / "metrics.py").read_text()) - {"cloud_tasks.job.id"}
    assert names(r"`(cloud_tasks\.[a-z._]+)`", rows) == made
    assert rows in (Path(__file__).parents[3] / "docs" / "event_sinks.md").read_text(encoding="utf-8")
    assert [outcome for outcome in OUTCOMES.values() if outcome not in rows] == []
