"""The guide matches the code: settings with their flags, error messages, limits and roles."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from cloud_tasks.plugin import setting_info
from cloud_tasks_azure.compute.startup_script import MAX_BYTES
from cloud_tasks_azure.permissions import CONTROLLER_ROLE, WORKER_ROLE
from cloud_tasks_azure.servicebus.settings import ServiceBusSettings
from cloud_tasks_azure.servicebus.traits import SERVICE_BUS_TRAITS
from cloud_tasks_azure.settings import AzureSettings

GUIDE = (Path(__file__).parents[3] / "docs" / "providers" / "azure.md").read_text(encoding="utf-8")
SOURCES = Path(__file__).parents[1] / "src" / "cloud_tasks_azure"
FIELDS = {"Settings": attrs.fields_dict(AzureSettings), "Queues": attrs.fields_dict(ServiceBusSettings)}
"""Settings by the section of the guide that has their table."""


def section(title: str) -> str:
    return GUIDE.split(f"## {title}\n")[1].split("\n## ")[0]


def listed_settings() -> list[tuple[str, str, str]]:
    """Return the sections with the keys of their tables of settings, and with the flags of their rows."""
    found = []
    for title in FIELDS:
        rows = [line.split("|") for line in section(title).splitlines() if line.startswith("| `")]
        found += [(title, key, cells[2]) for cells in rows for key in re.findall(r"`(\w+)`", cells[1])]
    return found


@pytest.mark.parametrize("title", FIELDS)
def test_guide_lists_every_setting_once(title: str) -> None:
    assert sorted(key for found, key, _ in listed_settings() if found == title) == sorted(FIELDS[title])


@pytest.mark.parametrize(("title", "key", "shown"), listed_settings())
def test_guide_lists_the_flags_of_settings(title: str, key: str, shown: str) -> None:
    flag = setting_info(FIELDS[title][key]).flag
    assert flag in re.findall(r"`(--[a-z-]+)`", shown) if flag else "--" not in shown


@pytest.mark.parametrize("text", re.findall(r"^\| `([^`]+)`", section("Troubleshooting"), re.MULTILINE))
def test_guide_quotes_errors_as_in_the_code(text: str) -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in SOURCES.rglob("*.py"))
    words = [part.strip() for part in text.split("…") if part.strip()]
    # A single word is an error code of Azure.
    assert [part for part in words if " " in part and part not in code] == []


def test_guide_has_the_roles_and_limits_of_the_code() -> None:
    assert f'--role "{CONTROLLER_ROLE}"' in GUIDE
    assert f'--role "{WORKER_ROLE}"' in GUIDE
    assert f"{SERVICE_BUS_TRAITS.max_message_bytes // 1024} KiB are used" in GUIDE
    assert f"{MAX_BYTES:,} bytes; larger ones are compressed" in GUIDE


def test_guide_says_that_a_new_role_is_not_known_at_once() -> None:
    steps = section("Getting started")
    assert steps.index("az role definition create") < steps.index("az role assignment create")
    assert "RoleDefinitionDoesNotExist" in steps.split("az role assignment create")[-1].split("###")[0]


def test_plugin_page_has_the_line_counts_of_the_code() -> None:
    page = (Path(__file__).parents[3] / "docs" / "plugins" / "index.md").read_text(encoding="utf-8")
    table = page.split("| part | lines |\n")[1].split("\n\n")[0]
    documented = [int(count.replace(",", "")) for count in re.findall(r"^\|[^|]+\| ([\d,]+) \|$", table, re.MULTILINE)]
    files = {file.relative_to(SOURCES).as_posix(): len(file.read_text().splitlines()) for file in SOURCES.rglob("*.py")}
    rows = (
        r"compute/.*",
        r"queue/.*",
        r"servicebus/.*",
        r"pricing/.*",
        r"instance_side.py",
        r"(credentials|settings|plugin|traits).py",
        r"(doctor.*|permissions).py",
    )
    found = [sum(lines for file, lines in files.items() if re.fullmatch(row, file)) for row in rows]
    assert documented == pytest.approx(found, rel=0.15)
