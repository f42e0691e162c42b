"""`boot_script` in real shells, with and without inserted lines."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cloud_tasks.plugin import boot_script
from cloud_tasks.plugin.boot_script import insert_lines

SHELLS = ["bash", "sh"]
NASTY = "a b'c\"d$HOME`id`\\ }\n; rm -rf x"
ALL_ARGUMENTS: dict[str, Any] = {
    "max_lifetime": timedelta(seconds=1),
    "end_command": "true",
    "variables": {"REGION": NASTY},
    "lines": ["cat > file <<'END'", 'print("of the provider")', "END"],
}
FORMS: list[dict[str, Any]] = [{}, {"max_lifetime": timedelta(seconds=1)}, {"end_command": "true"}, ALL_ARGUMENTS]

PROBE = """
set -eu
echo "arguments: $#"
echo "jobs: $(jobs)"
echo "last: ${!:-none}"
echo "options: $-"
sleep 0 &
wait
echo "waited"
exit 7
"""


def run(script: str, folder: Path, *, programs: dict[str, str] | None = None, **env: str) -> tuple[int, str, str]:
    """Run a script with some programs replaced, and return exit code, output and errors."""
    shims = folder / "bin"
    shims.mkdir(exist_ok=True)
    for name, body in {"shutdown": "exit 0", **(programs or {})}.items():
        (shims / name).write_text(f"#!/bin/sh\n{body}\n")
        (shims / name).chmod(0o755)
    file = folder / "script"
    file.write_bytes(script.encode())
    file.chmod(0o755)
    ran = subprocess.run(
        [str(file)],
        cwd=folder,
        env={"PATH": f"{shims}:{os.environ['PATH']}", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


def pipe(folder: Path) -> Path:
    """Return a pipe for the output of the termination command; reading waits for it."""
    path = folder / "ended"
    os.mkfifo(path)
    return path


# -- the script itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_boot_script_lines_have_no_effect_on_the_script(shell: str, form: dict[str, Any], tmp_path: Path) -> None:
    script = f"#!/usr/bin/env {shell}{PROBE}"
    plain = run(script, tmp_path)
    assert plain[0] == 7
    assert run(boot_script(script, **form), tmp_path) == plain


@pytest.mark.parametrize("options", ["", " -e", " -eu"])
def test_boot_script_keeps_the_options_of_the_interpreter_line(options: str, tmp_path: Path) -> None:
    script = f'#!/bin/sh{options}\necho "$-"\nfalse\necho "continued"\n'
    assert run(boot_script(script, **ALL_ARGUMENTS), tmp_path) == run(script, tmp_path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_boot_script_is_valid_in_every_shell(shell: str, form: dict[str, Any]) -> None:
    script = boot_script("echo hello\n", **form)
    checked = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=60, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("script", "first", "rest"),
    [
        ("#!/bin/sh -e\necho hi\n", "#!/bin/sh -e", "echo hi\n"),
        ("#!/bin/sh\necho hi", "#!/bin/sh", "echo hi"),
        ("#!/bin/sh", "#!/bin/sh", ""),
        ("echo hi\n", "#!/bin/bash", "echo hi\n"),
        ("\n#!/bin/sh\n", "#!/bin/bash", "\n#!/bin/sh\n"),
        ("", "#!/bin/bash", ""),
        ("#!/bin/sh\r\necho hi\r\n", "#!/bin/sh", "echo hi\r\n"),
        ("#!/bin/sh\necho 'ä\x0b\u2028'\n", "#!/bin/sh", "echo 'ä\x0b\u2028'\n"),
    ],
)
def test_insert_lines_keeps_interpreter_and_script(script: str, first: str, rest: str) -> None:
    assert insert_lines(script, ["one", "two\nthree"]) == f"{first}\none\ntwo\nthree\n{rest}"
    composed = boot_script(script)
    assert composed.startswith(f"{first}\n")
    assert composed.endswith(f"\n{rest}")


def test_boot_script_adds_bash_without_an_interpreter_line(tmp_path: Path) -> None:
    assert run(boot_script('words=(of bash); echo "${words[1]}"'), tmp_path) == (0, "bash\n", "")


def test_boot_script_accepts_windows_line_ends(tmp_path: Path) -> None:
    assert run(boot_script("#!/bin/sh\r\necho hi\r\n"), tmp_path) == (0, "hi\r\n", "")


@pytest.mark.parametrize(
    "first",
    [
        "#!/usr/bin/python3.12",
        "#!/usr/bin/env python3",
        "#!/usr/bin/env -S python3 -u\r",
        "#! /usr/bin/perl -w",
        "#!/bin/tcsh",
        "#!/usr/bin/fish",
    ],
)
def test_boot_script_returns_another_language_unchanged(first: str) -> None:
    script = f"{first}\nprint(1)\n"
    assert boot_script(script, **ALL_ARGUMENTS) == script


@pytest.mark.parametrize(
    "first", ["#!/bin/bash", "#!/usr/bin/env -S bash -e", "#!/bin/busybox sh", "#!/opt/perl/bin/zsh", "#!/opt/wrapper"]
)
def test_boot_script_treats_other_scripts_as_shell_scripts(first: str) -> None:
    assert "CLOUD_TASKS_POWER_OFF_COMMAND" in boot_script(f"{first}\n")


# -- variables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_boot_script_exports_every_value_unchanged(shell: str, tmp_path: Path) -> None:
    script = f"#!/usr/bin/env {shell}\nexec printenv REGION\n"
    assert run(boot_script(script, variables={"REGION": NASTY}), tmp_path) == (0, f"{NASTY}\n", "")


@pytest.mark.parametrize(("set_to", "expected"), [("mine", "mine"), ("", "ours")])
def test_boot_script_variables_rank_below_those_of_the_instance(set_to: str, expected: str, tmp_path: Path) -> None:
    script = boot_script("#!/bin/sh -u\nexec printenv REGION\n", variables={"REGION": "ours"})
    assert run(script, tmp_path, REGION=set_to) == (0, f"{expected}\n", "")


def test_boot_script_variables_rank_below_those_of_the_script(tmp_path: Path) -> None:
    script = '#!/bin/sh\nexport CLOUD_TASKS_POWER_OFF_COMMAND=""\necho "[$CLOUD_TASKS_POWER_OFF_COMMAND]"\n'
    assert run(boot_script(script), tmp_path) == (0, "[]\n", "")


# -- termination of the instance --------------------------------------------------------------------------------------

OFF = "#!/bin/sh\nexec printenv CLOUD_TASKS_POWER_OFF_COMMAND\n"


@pytest.mark.parametrize(("set_to", "expected"), [("", "shutdown -h +1"), ("true", "true")])
def test_power_off_command_shuts_down_after_a_minute(set_to: str, expected: str, tmp_path: Path) -> None:
    assert run(boot_script(OFF), tmp_path, CLOUD_TASKS_POWER_OFF_COMMAND=set_to) == (0, f"{expected}\n", "")


@pytest.mark.parametrize(
    ("end_command", "ends"), [("echo deleted", "deleted\n"), ("echo gone; false", "gone\nshut down: -h now\n")]
)
def test_power_off_command_runs_the_end_command_after_a_minute(end_command: str, ends: str, tmp_path: Path) -> None:
    programs = {"sleep": 'echo "after: $1"', "shutdown": 'echo "shut down: $@"'}
    script = boot_script('#!/bin/sh\nsh -c "$CLOUD_TASKS_POWER_OFF_COMMAND"\n', end_command=end_command)
    # The output is read until every process that could write to it has exited.
    assert run(script, tmp_path, programs=programs) == (0, f"after: 60\n{ends}", "")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("end_command", "ends"),
    [(None, "shut down: -h now\n"), ("echo deleted > ended", "deleted\n"), ("false", "shut down: -h now\n")],
)
def test_max_lifetime_applies_while_the_script_runs(
    end_command: str | None, ends: str, shell: str, tmp_path: Path
) -> None:
    pipe(tmp_path)
    script = boot_script(
        f"#!/usr/bin/env {shell}\ncat ended\n", max_lifetime=timedelta(seconds=0.2), end_command=end_command
    )
    assert run(script, tmp_path, programs={"shutdown": 'echo "shut down: $@" > ended'}) == (0, ends, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_max_lifetime_applies_after_the_script_and_a_failed_line(shell: str, tmp_path: Path) -> None:
    ended = pipe(tmp_path)
    script = boot_script(f"#!/usr/bin/env -S {shell} -e\n", max_lifetime=timedelta(0), lines=["false"])
    assert run(script, tmp_path, programs={"shutdown": 'echo "shut down: $@" > ended'}) == (1, "", "")
    assert ended.read_text() == "shut down: -h now\n"


@pytest.mark.parametrize(("seconds", "whole"), [(0.2, 1), (0, 1), (-5, 1), (59.1, 60), (864_000, 864_000)])
def test_max_lifetime_is_rounded_up_to_whole_seconds(seconds: float, whole: int, tmp_path: Path) -> None:
    ended = pipe(tmp_path)
    script = boot_script("#!/bin/sh\n", max_lifetime=timedelta(seconds=seconds))
    run(script, tmp_path, programs={"sleep": 'echo "$@" > ended'})
    assert ended.read_text() == f"{whole}\n"


def test_boot_script_without_max_lifetime_has_no_timer() -> None:
    assert "sleep" not in boot_script("#!/bin/sh\n")
