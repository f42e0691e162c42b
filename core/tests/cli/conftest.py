"""A command line in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[CommandLine]:
    found = CommandLine(tmp_path)
    yield found
    found.clean_up()
