"""Commands import only the modules they need, as shown by the loaded modules."""

from __future__ import annotations

from typing import Any

import pytest

PROBE = """
import sys
from cloud_tasks.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print("\\nmodules:", *sorted(sys.modules), file=sys.stderr)
"""


def modules_loaded_by(python: Any, *arguments: str) -> set[str]:
    answer = python(["-c", PROBE, *arguments], {})
    assert answer.returncode == 0, answer.stderr
    return set(answer.stderr.rpartition("modules: ")[2].split())


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_no_plugin_no_controller_and_only_click(python: Any, option: str) -> None:
    loaded = modules_loaded_by(python, option)
    packages = {name.split(".")[1] for name in loaded if name.startswith("cloud_tasks.")}
    assert packages <= {"cli", "errors", "escape", "exit_codes", "sanitize", "shortage", "standard_streams"}
    assert not {name for name in loaded if name.startswith("cloud_tasks_")}
    heavy = {"attrs", "fsspec", "ijson", "pluggy", "rich", "sqlite3", "structlog", "yaml"}
    assert not loaded & heavy


def test_plugins_command_imports_no_implementation_and_no_controller(python: Any) -> None:
    loaded = modules_loaded_by(python, "plugins")
    assert "cloud_tasks_local.plugin" in loaded
    implementations = {"cloud_tasks_local.queue", "cloud_tasks_local.compute", "cloud_tasks.controller", "sqlite3"}
    assert not loaded & implementations


def test_worker_imports_no_command_line_no_controller_and_no_yaml(python: Any) -> None:
    answer = python(["-c", "import sys, cloud_tasks.worker; print(*sorted(sys.modules))"], {})
    loaded = set(answer.stdout.split())
    assert "cloud_tasks.worker" in loaded
    assert not loaded & {"click", "yaml", "rich", "cloud_tasks.cli", "cloud_tasks.controller", "cloud_tasks.store"}
