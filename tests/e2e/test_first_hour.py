"""The commands of `docs/first_hour.md`, typed into a terminal.

The page is the script: text after a ``$`` is typed, a line that ends with ``⏎`` is a question with its answer, ``...``
stands for lines that are not compared, and every other line must appear, in this order.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from missing import missing

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first_hour.md"
# Third-party packages come from the package index that this machine's pip uses.
pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]


@attrs.frozen(kw_only=True)
class Step:
    """One command of the page."""

    command: str
    answers: tuple[tuple[str, str], ...]
    """Questions, each with its answer."""
    seen: tuple[str, ...]
    """Lines of its output, in order."""


def steps(page: str) -> Iterator[Step]:
    """Yield the commands of a page's console blocks."""
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            questions = (re.fullmatch(r"(.*[:\]]) (\S*)⏎", line) for line in lines)
            yield Step(
                command=command,
                answers=tuple((found[1], found[2]) for found in questions if found),
                seen=tuple(line for line in lines if line != "..." and not line.endswith("⏎")),
            )


class Terminal:
    """A shell in a detached terminal, ended by `close`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._socket = folder / "tmux.sock"
        self._codes = folder / "exit-codes"
        self._codes.touch()
        home = folder / "home"
        home.mkdir()
        variables = {**environment, "PS1": "$ ", "PROMPT_COMMAND": f"echo $? >> {self._codes}"}
        shell = ("bash", "--noprofile", "--norc")
        size = ("-x", "120", "-y", "50")
        self._call("-f", "/dev/null", "new-session", "-d", *size, "-c", str(home), *shell, env=variables)
        self._call("set-option", "-g", "history-limit", "5000")
        self.wait(lambda: len(self._ended()) == 1)

    def _call(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        command = ["tmux", "-S", str(self._socket), *arguments]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    def _ended(self) -> list[int]:
        return [int(code) for code in self._codes.read_text().split()]

    def screen(self) -> str:
        """Return the screen with its scroll history, wrapped lines joined."""
        return self._call("capture-pane", "-p", "-J", "-S", "-")

    def type(self, text: str) -> None:
        if text:
            self._call("send-keys", "-l", "--", text)
        self._call("send-keys", "Enter")

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 300
        while not condition():
            assert time.monotonic() < deadline, self.screen()
            time.sleep(0.05)

    def do(self, step: Step) -> tuple[int, list[str]]:
        """Type a command and its answers; return exit code and output lines."""
        before = len(self._ended())
        self._call("send-keys", "-R")
        self._call("clear-history")
        self.type(step.command)
        for question, answer in step.answers:
            self.wait(lambda question=question: question in last_line(self.screen()))  # type: ignore[misc]
            self.type(answer)
        self.wait(lambda: len(self._ended()) > before)
        return self._ended()[-1], [line.rstrip() for line in self.screen().splitlines()]

    def close(self) -> None:
        self._call("kill-server")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    for distribution in ("core", "plugins/local"):
        words = ("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT / distribution))
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def terminal(wheels: Path, tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        missing("tmux is not installed", how="on Debian: apt-get install tmux")
    excluded = ("PYTHONPATH", "CLOUD_TASKS_GUARD_LOG", "VIRTUAL_ENV", "TMUX", "TMUX_PANE")
    environment = {name: value for name, value in os.environ.items() if name not in excluded}
    # A new user does not have the programs of this environment.
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != Path(sys.executable).parent]
    environment["PATH"] = os.pathsep.join([str(Path(sys.base_prefix) / "bin"), *path])
    environment["PIP_FIND_LINKS"] = f"{wheels} {environment.get('PIP_FIND_LINKS', '')}".strip()
    environment["LC_ALL"] = "C.UTF-8"
    terminal = Terminal(tmp_path, environment)
    yield terminal
    terminal.close()


def last_line(screen: str) -> str:
    """Return the last line with text, or "" if the screen has none yet."""
    return screen.rstrip().rpartition("\n")[2]


def not_shown(expected: tuple[str, ...], shown: list[str]) -> list[str]:
    """Return the expected lines from the first one that does not follow its predecessor."""
    rest = iter(shown)
    return next((list(expected[place:]) for place, line in enumerate(expected) if line not in rest), [])


def test_first_hour_page_matches_the_terminal(terminal: Terminal) -> None:
    commands = list(steps(PAGE.read_text(encoding="utf-8")))
    assert len(commands) > 20
    failed = []
    for step in commands:
        code, shown = terminal.do(step)
        assert not_shown(step.seen, shown) == [], f"{step.command}\n" + "\n".join(shown)
        assert not any("Traceback" in line for line in shown) or step.command.startswith("cloud-tasks logs")
        failed += [step.command] if code else []
    # The mistake in the configuration is refused; the one in the program fails the tasks.
    assert failed == ["cloud-tasks run --config config.yml --task-file tasks.json"] * 2


def test_last_line_of_a_screen_without_text_is_empty() -> None:
    assert last_line("") == ""
    assert last_line("\n  \n") == ""
    assert last_line("$ rm -i a\nremove a? [y/N] \n\n") == "remove a? [y/N]"


def test_missing_returns_the_lines_that_did_not_appear() -> None:
    assert not_shown(("a", "c"), ["a", "b", "c"]) == []
    assert not_shown(("c", "a"), ["a", "b", "c"]) == ["a"]
    assert not_shown(("a", "d"), ["a", "b", "c"]) == ["d"]
