"""Calls of uv on this machine, and its errors in one line.

Invariant, with a test: a credential in an address appears in no error.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from cloud_tasks.errors import InputError

__all__ = ["UvError", "call_uv", "uv_program"]

_SETTINGS = {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
_LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "FORCE_COLOR", "CLICOLOR_FORCE")
"""Variables that change which packages a build finds, or the form of messages."""
_LONGEST = 500
"""Characters of a reason."""
_MISSING = re.compile(
    r"\ABecause (?:there is no version of .+?|.+? was not found in .+?|only .+? (?:is|are) available:?.*?)"
    r" and (?:you require|(?P<parent>.+?) depends? on) (?P<wanted>.+?), we can conclude"
)


class UvError(Exception):
    """uv refused or failed.

    Args:
        text: What it printed: the output of a build, ``error: …``, ``cause: …`` from the outermost to the first cause,
            and hints.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        message, *hints = re.split(r"^hint: ", text, flags=re.MULTILINE)
        self.hints = [" ".join(hint.split()) for hint in hints]
        output, *causes = re.split(r"^ *(?:error|cause): ", message, flags=re.MULTILINE)
        self.output = output.strip()
        self.causes = [cause.strip() for cause in causes] or [self.output or "unknown error"]

    @property
    def needs_newer_python(self) -> bool:
        """Whether a package does not support the oldest Python."""
        return "requested Python version" in self.causes[-1]

    def place(self) -> tuple[str, int] | None:
        """Return the file and the position in it, in characters, of a requirement that uv cannot read."""
        found = re.search(r" in `(.+)` at position (\d+)", self.causes[0])
        return (found[1], int(found[2])) if found else None

    def missing(self) -> tuple[str, str] | None:
        """Return a requirement that no package fulfils, and the package that has it; empty if the user has."""
        found = _MISSING.search(" ".join(self.causes[-1].split()))
        if found is None:
            return None
        return re.sub(r"\{.*?\}", "", found["wanted"]), (found["parent"] or "").removeprefix("all versions of ")

    def reason(self) -> str:
        """Return the cause in one line."""
        first, last = " ".join(self.causes[0].split()), " ".join(self.causes[-1].split())
        if refused := next((hint for hint in self.hints if "authentication" in hint), None):
            return refused.removesuffix(".")
        if (missing := self.missing()) is not None:
            wanted, parent = missing
            place = " in the cache, and the network is disabled" if "disabled" in "".join(self.hints) else ""
            return f"no matching distribution for {wanted}{f', which {parent} requires' if parent else ''}{place}"
        if address := re.search(r"Failed to fetch: (\S+)", " ".join(self.causes)):
            return f"cannot fetch {address[1]}: {last}"
        if "[stderr]" in self.causes[-1] or "--- stderr" in self.causes[-1]:
            return f"{first}: {self.causes[-1].splitlines()[-1].strip()}"
        if self.output and "(exit status: " in last:
            return f"{first}: {self.output.splitlines()[-1].strip()}"
        if self.place() is not None:
            # Without the requirement and the marks below it.
            return " ".join(re.sub(r"\n.*\n *\^+ *\Z", "", self.causes[-1]).split())
        parts = [last] if first.startswith("No solution") else [first, last]
        shown = ": ".join(dict.fromkeys(parts))
        return shown[:_LONGEST].removesuffix(".")


def uv_program() -> str:
    """Return the path of the uv program of this environment.

    Raises:
        InputError: It is not installed.
    """
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise InputError("uv is not installed", hint="pip install uv") from error


def call_uv(*arguments: str, folder: Path, stdin: str = "") -> str:
    """Return what uv prints.

    Args:
        folder: Current folder, whose settings of uv apply.

    Raises:
        UvError: It failed.
    """
    environment = {**os.environ, **_SETTINGS}
    for name in _LEFT_OUT:
        environment.pop(name, None)
    # The output of a build has its error.
    quiet = [] if arguments[0] == "build" else ["--quiet"]
    done = subprocess.run(
        [uv_program(), *arguments, *quiet],
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise UvError(done.stderr)
    return done.stdout
