"""Help of the program: commands in sections, and a test that every help text is in the standard form."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from cloud_tasks.cli.context import AppContext, make_registry
from cloud_tasks.cli.main import COMMANDS, SECTIONS, cli, main


def own_help_texts() -> Iterator[tuple[str, str]]:
    """Yield the help of each command and of its own options."""
    context = click.Context(cli, obj=AppContext(registry=make_registry()))
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for each in (command, *(command.commands.values() if isinstance(command, click.Group) else ())):
            for option in each.params:
                if isinstance(option, click.Option) and not (option.name or "").startswith("configuration__"):
                    yield f"{name} {max(option.opts, key=len)}", option.help or ""


def test_root_help_groups_all_commands_and_aligns_the_summaries(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if re.fullmatch(r"[A-Z].*:", line)][1:] == [
        f"{heading}:" for heading in SECTIONS.values()
    ]
    rows = re.findall(r"^  ([a-z][a-z-]+)( +)\S", text.partition("Jobs:")[2], re.MULTILINE)
    assert {name for name, _ in rows} == {*COMMANDS, "dashboard"}
    assert len({len(name) + len(gap) for name, gap in rows}) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_command_summary_fits_on_a_line(name: str) -> None:
    summary = COMMANDS[name][1]
    assert re.fullmatch(r"[A-Z][a-z]+,? .*[^.]\.", summary)
    assert len(summary) <= 54


def test_option_help_is_a_phrase_with_its_default_in_parentheses() -> None:
    wrong = [
        (name, text)
        for name, text in own_help_texts()
        if not re.fullmatch(r"[A-Z].*\.", text)
        or re.search(r"\[[^\]]*\]\.?$|^(How|What|Whether|Where|Only|The) ", text)
    ]
    assert wrong == []
