"""`completion`: shell scripts and completions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import click
import pytest
from click.shell_completion import BashComplete
from memory_commands import MemoryCommands

from cloud_tasks.cli.context import AppContext
from cloud_tasks.cli.main import COMMANDS, cli

PROGRAM = "from cloud_tasks.cli.main import main; main()"


@pytest.mark.parametrize(
    ("shell", "needs"),
    [
        ("bash", "complete -o nosort -F _cloud_tasks_completion cloud-tasks"),
        ("zsh", "compdef _cloud_tasks_completion cloud-tasks"),
        ("fish", "complete --no-files --command cloud-tasks"),
    ],
)
def test_completion_script_covers_both_names_of_the_program(shell: str, needs: str) -> None:
    text = MemoryCommands().call("completion", shell, provider=False).out
    assert needs in text
    assert needs.replace("cloud-tasks", "cloud_tasks") in text
    assert "_CLOUD_TASKS_COMPLETE" in text


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_script_is_valid_for_the_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    text = MemoryCommands().call("completion", shell, provider=False).out
    subprocess.run([shell, "-n"], input=text, text=True, check=True)


def answered(*words: str, registry: MemoryCommands | None = None) -> list[str]:
    """Return the completions after these words, in this process."""
    commands = registry or MemoryCommands()
    complete = BashComplete(cli, {"obj": AppContext(registry=commands.registry)}, "cloud-tasks", "_X")
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


def test_completion_of_commands() -> None:
    assert answered("li") == ["list-images", "list-instance-types", "list-regions", "list-running-instances"]
    assert set(COMMANDS) <= set(answered(""))


def test_completion_of_options() -> None:
    assert "--sort-by" in answered("list-images", "--so")
    assert answered("report", "--format", "m") == ["markdown"]
    assert answered("export", "ev") == ["events"]


def test_completion_of_an_unknown_word_is_empty() -> None:
    assert answered("lisst", "--") == answered("--")


def test_completion_imports_no_plugin_and_no_controller() -> None:
    environment = {
        **os.environ,
        "_CLOUD_TASKS_COMPLETE": "bash_complete",
        "COMP_WORDS": "cloud-tasks li",
        "COMP_CWORD": "1",
    }
    program = f"import atexit, sys\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "plain,list-images" in done.stdout
    loaded = set(done.stderr.split())
    assert "cloud_tasks.cli.main" in loaded
    assert not {name for name in loaded if name.startswith(("cloud_tasks_local", "cloud_tasks.controller", "pluggy"))}


def test_completion_rejects_an_unknown_shell() -> None:
    with pytest.raises(click.BadParameter, match="'csh' is not one of"):
        MemoryCommands().call("completion", "csh", provider=False)
