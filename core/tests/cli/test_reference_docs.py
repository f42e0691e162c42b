"""Generated reference pages of the command line and the configuration."""

from __future__ import annotations

import re

import pytest
from reference_docs import COMMAND, DOCS, PAGES

from cloud_tasks.cli.main import COMMANDS


@pytest.mark.parametrize("name", PAGES)
def test_reference_pages_match_the_code(name: str) -> None:
    written, made = (DOCS / name).read_text(encoding="utf-8"), PAGES[name]()
    assert written == made, f"docs/{name} is out of date; run: {COMMAND}"


def test_reference_has_a_section_for_every_command() -> None:
    sections = re.findall(r"^## (\S+)$", (DOCS / "cli.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in sections if name in COMMANDS] == sorted(COMMANDS)
