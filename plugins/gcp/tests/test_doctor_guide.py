"""The guide's settings, flags and commands agree with the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest

from cloud_tasks.cli.context import AppContext, make_registry
from cloud_tasks.cli.main import cli
from cloud_tasks.plugin import setting_info
from cloud_tasks_gcp.settings import GcpSettings

GUIDE = (Path(__file__).parents[3] / "docs" / "providers" / "gcp.md").read_text(encoding="utf-8")
FIELDS = attrs.fields_dict(GcpSettings)


def commands() -> Iterator[list[str]]:
    """Yield the cloud-tasks command lines of the guide, as argument lists."""
    for block in re.findall(r"(?:^    .*\n)+", GUIDE, flags=re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip().startswith("cloud-tasks "):
                yield shlex.split(line)[1:]


COMMANDS = list(commands())


def test_guide_shows_commands() -> None:
    assert {words[0] for words in COMMANDS} >= {"doctor", "plan", "run", "list-running-instances"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_guide_commands_have_known_options(words: list[str]) -> None:
    context = click.Context(cli, obj=AppContext(registry=make_registry()))
    command = cli.get_command(context, words[0])
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def rows() -> Iterator[tuple[list[str], str]]:
    section = GUIDE.split("## Settings\n")[1].split("\n## ")[0]
    for line in section.splitlines():
        keys, _, rest = line.removeprefix("| ").partition(" |")
        if line.startswith("| `"):
            yield re.findall(r"`([a-z_]+)`", keys), rest


@pytest.mark.parametrize(("keys", "rest"), list(rows()), ids=lambda value: str(value)[:30])
def test_guide_settings_have_their_flags(keys: list[str], rest: str) -> None:
    shown = re.findall(r"`(--[a-z-]+)`", rest.partition("|")[0])
    assert shown == [flag for key in keys if (flag := setting_info(FIELDS[key]).flag)]


def test_guide_lists_every_setting() -> None:
    assert {key for keys, _ in rows() for key in keys} == set(FIELDS)
