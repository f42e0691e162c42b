"""The guide says what is there: every setting with its flag, the errors as they are worded, the figures of the code."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from cloud_tasks.plugin import setting_info
from cloud_tasks_azure.compute.startup import MAX_BYTES
from cloud_tasks_azure.policies import CONTROLLER_ROLE, WORKER_ROLE
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.traits import QUEUE_TRAITS

GUIDE = (Path(__file__).parents[3] / "docs" / "providers" / "azure.md").read_text(encoding="utf-8")
SOURCES = Path(__file__).parents[1] / "src" / "cloud_tasks_azure"
FIELDS = attrs.fields_dict(AzureSettings)


def section(title: str) -> str:
    return GUIDE.split(f"## {title}\n")[1].split("\n## ")[0]


def settings_told() -> list[tuple[str, str]]:
    """Each key of the table with the flags that its row shows."""
    rows = [line.split("|") for line in section("Settings").splitlines() if line.startswith("| `")]
    return [(key, cells[2]) for cells in rows for key in re.findall(r"`(\w+)`", cells[1])]


def test_every_setting_is_told_once() -> None:
    assert sorted(key for key, _ in settings_told()) == sorted(FIELDS)


@pytest.mark.parametrize(("key", "shown"), settings_told())
def test_a_setting_is_told_with_its_flag(key: str, shown: str) -> None:
    flag = setting_info(FIELDS[key]).flag
    assert flag in re.findall(r"`(--[a-z-]+)`", shown) if flag else "--" not in shown


@pytest.mark.parametrize("text", re.findall(r"^\| `([^`]+)`", section("When something is odd"), re.MULTILINE))
def test_an_error_of_ours_is_worded_as_in_the_code(text: str) -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in SOURCES.rglob("*.py"))
    words = [part.strip() for part in text.split("…") if part.strip()]
    # What is one word is a code of Azure's.
    assert [part for part in words if " " in part and part not in code] == []


def test_the_roles_and_figures_are_those_of_the_code() -> None:
    assert f'--role "{CONTROLLER_ROLE}"' in GUIDE
    assert f'--role "{WORKER_ROLE}"' in GUIDE
    assert f"{QUEUE_TRAITS.max_message_bytes // 1024} KiB are used" in GUIDE
    assert f"{MAX_BYTES:,} bytes; larger ones are compressed" in GUIDE


def test_what_the_plugin_took_is_told_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "plugins" / "index.md").read_text(encoding="utf-8")
    table = page.split("## What the third cloud taught\n")[1]
    told = {row[0]: int(row[1].replace(",", "")) for row in re.findall(r"^\| ([^|]+) \| ([\d,]+) \|$", table, re.M)}
    files = {file.relative_to(SOURCES).as_posix(): len(file.read_text().splitlines()) for file in SOURCES.rglob("*.py")}
    parts = {
        "Virtual Machines": r"compute/.*",
        "Storage Queue": r"queue/(?!servicebus).*",
        "Service Bus, as the other queue": r"queue/servicebus.*",
        "prices": r"pricing/.*",
        "what a worker asks on its machine": r"instance_side.py",
        "credentials, settings, registration, traits": r"(credentials|settings|plugin|traits).py",
        "doctor and roles": r"(doctor.*|permissions|policies).py",
    }
    found = {name: sum(n for file, n in files.items() if re.fullmatch(part, file)) for name, part in parts.items()}
    assert told == {name: pytest.approx(lines, rel=0.15) for name, lines in found.items()}
