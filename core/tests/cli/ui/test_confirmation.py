"""Confirmation of destructive actions: the same prompt, options and errors for every command."""

from __future__ import annotations

import io
import sys

import pytest
from command_line import CommandLine, wait_until
from memory_commands import MemoryCommands
from terminal import Screen, in_a_terminal

from cloud_tasks.cli.ui.confirmation import choose, confirm, is_interactive
from cloud_tasks.errors import InputError
from cloud_tasks.store import Store


class Typed(io.StringIO):
    """Standard input on a terminal with typed input."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("typed", ["YES\n", " YES \n", "YES"])
def test_confirm_accepts_the_exact_answer(
    typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    confirm("terminate 1 instance", force=False)
    assert capsys.readouterr().err.strip() == "This will terminate 1 instance.\nType YES to confirm:"


@pytest.mark.parametrize("typed", ["", "\n", "yes\n", "y\n", "YES please\n", "YE"])
def test_confirm_rejects_other_answers_and_the_end_of_input(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    with pytest.raises(InputError, match="not confirmed, nothing was changed"):
        confirm("terminate 1 instance", force=False)


@pytest.mark.parametrize("closed", [True, False])
def test_confirm_without_standard_input_is_refused(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.StringIO()
    stdin.close()
    monkeypatch.setattr(sys, "stdin", stdin if closed else None)
    assert not is_interactive()
    with pytest.raises(InputError, match="this would terminate 1 instance; add --force to confirm"):
        confirm("terminate 1 instance", force=False)
    confirm("terminate 1 instance", force=True)


@pytest.mark.parametrize("option", ["--force", "-f", "--yes", "-y"])
@pytest.mark.parametrize("command", ["purge-queue", "delete-queue"])
def test_force_is_accepted_in_every_spelling(command: str, option: str) -> None:
    commands = MemoryCommands()
    queue = commands.queue("job")
    queue.create()
    queue.send([b"{}"])
    assert isinstance(commands.call(command, "--queue-name", "job").error, InputError)
    assert commands.call(command, "--queue-name", "job", option).error is None
    assert not queue.exists() or queue.depth().visible == 0


@pytest.mark.parametrize(
    ("typed", "answer"), [("\n", "c"), ("c\n", "c"), ("C\n", "c"), ("overwrite\n", "o"), ("Q\n", "q"), (" o \n", "o")]
)
def test_choose_returns_the_letter_of_the_answer(typed: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    assert choose("Which? ", "coq") == answer


@pytest.mark.parametrize("typed", ["", "YES\n", "x\n"])
def test_choose_rejects_other_answers_and_the_end_of_input(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    with pytest.raises(InputError, match="nothing was changed; type one of c, o, q"):
        choose("Which? ", "coq")


@pytest.fixture
def loaded(shell: CommandLine) -> CommandLine:
    """Folder with a loaded job."""
    shell.configure()
    (shell.folder / "tasks.json").write_text('[{"id": "a", "data": {}}]')
    done = shell.run("load-queue", "-c", "config.yml", "--task-file", "tasks.json")
    assert done.code == 0, done.err
    return shell


def _answer(screen: Screen, key: str) -> None:
    wait_until(lambda: "Type YES to confirm" in screen.shown or "[q]uit? [C]" in screen.shown)
    screen.type(key)


@pytest.mark.parametrize("command", ["run", "load-queue"])
def test_ctrl_c_and_ctrl_d_at_the_prompt_change_nothing(loaded: CommandLine, command: str) -> None:
    before = (loaded.folder / "job.db").read_bytes()
    for key, code in (("\x03", 130), ("\x04", 2)):
        with Screen(loaded.folder, command, "-c", "config.yml", "--task-file", "tasks.json") as screen:
            _answer(screen, key)
            assert screen.end() == code
    assert (loaded.folder / "job.db").read_bytes() == before
    assert list(loaded.folder.glob(".cloud-tasks-load-*")) == []


def test_confirmation_describes_the_job_to_overwrite(loaded: CommandLine) -> None:
    words = ("load-queue", "-c", "config.yml", "--task-file", "tasks.json")
    session = in_a_terminal(loaded.folder, "YES", *words)
    described = "job job (job.db): 0 of 1 task finished; the task queue with 1 message"
    assert (session.code, f"This will overwrite {described}.\n" in session.err) == (0, True), session.err
    refused = loaded.run(*words)
    hint = "add --force to confirm, or --continue to resume the job"
    assert refused.err.splitlines()[-1] == f"Error: this would overwrite {described}; {hint}"
    with Store.open(loaded.folder / "job.db", read_only=True) as store:
        assert store.summary().total == 1
