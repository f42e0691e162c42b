"""`boot_script` in real shells, with and without inserted lines."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from boot_shell import kill_guards, run_script

from cloud_tasks.plugin import boot_script
from cloud_tasks.plugin.boot_script import insert_lines

SHELLS = ["bash", "sh"]
NASTY = "a b'c\"d$HOME`id`\\ }\n; rm -rf x"
ALL_ARGUMENTS: dict[str, Any] = {
    "max_lifetime": timedelta(minutes=1),
    "startup_timeout": timedelta(minutes=1),
    "end_command": "true",
    "variables": {"REGION": NASTY},
    "lines": ["cat > file <<'END'", 'print("of the provider")', "END"],
}
FORMS: list[dict[str, Any]] = [{}, {"max_lifetime": timedelta(minutes=1)}, {"end_command": "true"}, ALL_ARGUMENTS]

PROBE = """
set -eu
echo "arguments: $#"
echo "jobs: $(jobs)"
echo "traps: $(trap)"
echo "last: ${!:-none}"
echo "options: $-"
sleep 0 &
wait
echo "waited"
exit 7
"""


@pytest.fixture(autouse=True)
def no_guard_left(tmp_path: Path) -> Iterator[None]:
    yield
    kill_guards(tmp_path)


# -- the script itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_boot_script_lines_have_no_effect_on_the_script(shell: str, form: dict[str, Any], tmp_path: Path) -> None:
    script = f"#!/usr/bin/env {shell}{PROBE}"
    plain = run_script(script, tmp_path)
    assert plain[0] == 7
    assert run_script(boot_script(script, **form), tmp_path) == plain


@pytest.mark.parametrize("options", ["", " -e", " -eu"])
def test_boot_script_keeps_the_options_of_the_interpreter_line(options: str, tmp_path: Path) -> None:
    script = f'#!/bin/sh{options}\necho "$-"\nfalse\necho "continued"\n'
    assert run_script(boot_script(script, **ALL_ARGUMENTS), tmp_path) == run_script(script, tmp_path)


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
    assert run_script(boot_script('words=(of bash); echo "${words[1]}"'), tmp_path) == (0, "bash\n", "")


def test_boot_script_accepts_windows_line_ends(tmp_path: Path) -> None:
    assert run_script(boot_script("#!/bin/sh\r\necho hi\r\n"), tmp_path) == (0, "hi\r\n", "")


OTHER_LANGUAGES = {
    "#!/usr/bin/env python3": "import os, sys\nprint(sys.argv[1:], os.environ['PATH'] != '')\nsys.exit(7)",
    "#!/usr/bin/env -S python3 -u\r": "print('''it's \\\\ \"$HOME\" `id`''')\nraise SystemExit(7)\n",
    "#! /usr/bin/perl -w": "print 'perl'; my $undefined; print $undefined; exit 7;\n",
    "#!/usr/bin/awk -f": 'BEGIN { print ENVIRON["PATH"] != ""; exit 7 }\n',
}


@pytest.mark.parametrize("first", OTHER_LANGUAGES)
def test_boot_script_has_no_effect_on_a_script_in_another_language(first: str, tmp_path: Path) -> None:
    script = f"{first}\n{OTHER_LANGUAGES[first]}"
    plain = run_script(script.replace("\r", ""), tmp_path)
    composed = run_script(boot_script(script, **ALL_ARGUMENTS), tmp_path, TMPDIR=str(tmp_path))
    assert plain[0] == 7
    assert composed[:2] == plain[:2]
    # Messages name the file of the script.
    assert re.sub(r"at \S+ line", "", composed[2]) == re.sub(r"at \S+ line", "", plain[2])


def test_script_in_another_language_keeps_the_process_id(tmp_path: Path) -> None:
    script = (
        "#!/usr/bin/env python3\nimport os\nprint(os.environ['CLOUD_TASKS_PROCESS_NAME'] == f'ctw-{os.getpid()}')\n"
    )
    assert run_script(boot_script(script), tmp_path, TMPDIR=str(tmp_path)) == (0, "True\n", "")


@pytest.mark.parametrize(
    ("first", "command"),
    [
        ("#!/usr/bin/python3.12", "/usr/bin/python3.12"),
        ("#!/usr/bin/env -S python3 -u\r", "/usr/bin/env '-S python3 -u'"),
        ("#! /usr/bin/perl -w", "/usr/bin/perl -w"),
        ("#!/bin/tcsh", "/bin/tcsh"),
        ("#!/usr/bin/fish", "/usr/bin/fish"),
    ],
)
def test_insert_lines_executes_another_language_with_its_interpreter(first: str, command: str) -> None:
    composed = insert_lines(f"{first}\nprint(1)\n", ["one"])
    assert composed.startswith("#!/bin/sh\none\n")
    assert composed.endswith(f'\nexec {command} "$CLOUD_TASKS_SCRIPT_FILE" "$@"\n')


def test_script_in_another_language_without_its_interpreter_fails(tmp_path: Path) -> None:
    script = boot_script("#!/nowhere/python3\nprint(1)\n")
    assert run_script(script, tmp_path, TMPDIR=str(tmp_path))[:2] == (127, "")


@pytest.mark.parametrize(
    "first", ["#!/bin/bash", "#!/usr/bin/env -S bash -e", "#!/bin/busybox sh", "#!/opt/perl/bin/zsh", "#!/opt/wrapper"]
)
def test_boot_script_treats_other_scripts_as_shell_scripts(first: str) -> None:
    assert boot_script(f"{first}\necho\n").startswith(f"{first}\n")


# -- variables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_boot_script_exports_every_value_unchanged(shell: str, tmp_path: Path) -> None:
    script = f"#!/usr/bin/env {shell}\nexec printenv REGION\n"
    assert run_script(boot_script(script, variables={"REGION": NASTY}), tmp_path) == (0, f"{NASTY}\n", "")


@pytest.mark.parametrize(("set_to", "expected"), [("mine", "mine"), ("", "ours")])
def test_boot_script_variables_rank_below_those_of_the_instance(set_to: str, expected: str, tmp_path: Path) -> None:
    script = boot_script("#!/bin/sh -u\nexec printenv REGION\n", variables={"REGION": "ours"})
    assert run_script(script, tmp_path, REGION=set_to) == (0, f"{expected}\n", "")


def test_boot_script_variables_rank_below_those_of_the_script(tmp_path: Path) -> None:
    script = '#!/bin/sh\nexport CLOUD_TASKS_POWER_OFF_COMMAND=""\necho "[$CLOUD_TASKS_POWER_OFF_COMMAND]"\n'
    assert run_script(boot_script(script), tmp_path) == (0, "[]\n", "")


# -- termination by the worker -----------------------------------------------------------------------------------------

OFF = "#!/bin/sh\nexec printenv CLOUD_TASKS_POWER_OFF_COMMAND\n"


@pytest.mark.parametrize(("set_to", "expected"), [("", "shutdown -h +1"), ("true", "true")])
def test_power_off_command_shuts_down_after_a_minute(set_to: str, expected: str, tmp_path: Path) -> None:
    assert run_script(boot_script(OFF), tmp_path, CLOUD_TASKS_POWER_OFF_COMMAND=set_to) == (0, f"{expected}\n", "")


@pytest.mark.parametrize(
    ("end_command", "ends"), [("echo deleted", "deleted\n"), ("echo gone; false", "gone\nshut down: -h now\n")]
)
def test_power_off_command_runs_the_end_command_after_a_minute(end_command: str, ends: str, tmp_path: Path) -> None:
    programs = {"sleep": '[ "$1" = 60 ] || exec /bin/sleep "$1"; echo "after: $1"', "shutdown": 'echo "shut down: $@"'}
    script = boot_script('#!/bin/sh\nsh -c "$CLOUD_TASKS_POWER_OFF_COMMAND"\n', end_command=end_command)
    # The output is read until every process that could write to it has exited.
    assert run_script(script, tmp_path, programs=programs) == (0, f"after: 60\n{ends}", "")
