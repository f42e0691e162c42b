"""Any value in any quoting of a template, run by bash and a POSIX shell: programs receive exactly text and value."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cloud_tasks.command_template import CommandTemplate, shell_line
from cloud_tasks.errors import InputError

SHELLS = [["bash", "-euo", "pipefail"], ["dash"] if shutil.which("dash") else ["sh"]]
PRINT = "printf '<%s>' "

HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "x'; touch pwned; '",
    'x"; touch pwned; "',
    "; touch pwned",
    "\n touch pwned\n",
    "a b",
    "",
    " ",
    "*",
    "~",
    "\\",
    "'",
    '"',
    "$HOME",
    "${HOME}",
    "-n",
    "a[$(touch pwned)]",
    "{x}",
    "}}",
    "{{",
    "é\u2028",
    "\udcff",
    "EOF",
    "\nEOF\ntouch pwned\n",
    "#",
    "!",
    "a\\",
    "a\\tb",
    "C:\\new",
    "$'\\n'",
    "%s",
    "&",
    "|",
    "<(touch pwned)",
    "a=b",
    "\x01",
    ")",
    "1 + 1",
    "x\nEOF\ntouch pwned\ncat <<EOF",
    "A\nB\n touch pwned",
    "http://u:p'@h';touch pwned;'",
)
VALUES = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
)

# A template, and the words that `printf` receives for the value `{v}` and the list `{l}`; "V" is the value.
CASES: tuple[tuple[str, Sequence[str]], ...] = (
    ("P {v}", ["V"]),
    ("P a{v}b", ["aVb"]),
    ('P "{v}"', ["V"]),
    ("P \"a {v} 'b'\"", ["a V 'b'"]),
    ("P '{v}'", ["V"]),
    ("P 'a {v} \"b\"' c", ['a V "b"', "c"]),
    ('P "$(printf %s "x{v}x")"', ["xVx"]),
    ("P \"$(printf %s 'x{v}x')\" '{v}'", ["xVx", "V"]),
    ('P "$(cat <<EOF\nx{v}x\nEOF\n)"', ["xVx"]),
    ('cat <<EOF >/dev/null # it\'s {v}\n{v} "{v}" $(printf %s {v})\nEOF\nP {v}', ["V"]),
    ('X={v}; P "$X"', ["V"]),
    ('X=a{v} Y=1; export Z="$X"; P "$Z"', ["aV"]),
    ('export X={v}; P "$X"', ["V"]),
    ('f() { P "$1" {v}; }; f {v}', ["V", "V"]),
    ("case {v} in x{v}) P no;; {v}) P yes;; *) P never;; esac", ["yes"]),
    ("case a in a|{v}) P {v}; esac; # {v}'", ["V"]),
    ("if test {v} = {v}; then P {v}; else P no; fi", ["V"]),
    ('for x in {v} a; do test "$x" = a || P "$x"; done', ["V"]),
    ("( P {v} )", ["V"]),
    ("{ P {v}; } 2>/dev/null", ["V"]),
    ("P \\\"{v}\\'{v}", ["\"V'V"]),
    ('P "\\"{v}\\$" a', ['"V$', "a"]),
    ("P a\\\n{v} # comment ' \" {v}\nprintf %s '' {v} >/dev/null", ["aV"]),
    ('P ${HOME:+x} "${HOME:+a}" {v}', ["x", "a", "V"]),
    ('P \'{{"a":{{"b":"{v}"}}}}\'', ['{"a":{"b":"V"}}']),
    ('P \'{"a":{"b":{v}}}\'', ['{"a":{"b":V}}']),
    ("printf %s {v} | { cat >/dev/null; P {v}; }", ["V"]),
    ("P {v} && P {v} >/dev/null || P no", ["V"]),
    ('sh -c \'printf "<%s>" "$1"\' _ {v}', ["V"]),
    ("P $((1+1)) {v} $(( (2) ))", ["2", "V", "2"]),
    ("P `printf a` {v}", ["a", "V"]),
    ("P {l} {v}", ["L", "V"]),
    ('P "{l}"', ["J"]),
    ('X={l}; P "$X"', ["J"]),
    ('value={v} awk \'BEGIN {{ printf "<%s>", ENVIRON["value"] }}\'', ["V"]),
    ('for x in {l}; do P "$x"; done', ["L"]),
)
BASH_CASES: tuple[tuple[str, Sequence[str]], ...] = (
    ("P $'a\\'{v}\\'b'", ["a'V'b"]),
    ('P $"{v}"', ["V"]),
    ('[[ {v} == {v} && "{v}" = {v} ]] && P {v}', ["V"]),
    ('a=({v} x{v}); P "${a[@]}"', ["V", "xV"]),
    ('a=({l}); P "${#a[@]}" {v}', ["N", "V"]),
    ('P "$(cat <<<{v})"x', ["Tx"]),
    ('declare -A m=([b]={v}); P "${m[b]}"', ["V"]),
    ('declare "y=a{v}"; a=([1]={v}); P "$y" "${a[1]}"', ["aV", "V"]),
    ("cat <(printf %s {v}) >/dev/null; P {v}", ["V"]),
    ("P {1..2} {a,b} {v}", ["1", "2", "a", "b", "V"]),
    ("((1 < 2)) && P {v}", ["V"]),
    ("case {v} in ({v}) P {v} ;;& zz) P no ;; esac", ["V"]),
    ('P "$( (printf %s {v}) )x"', ["Tx"]),
)
SH_CASES: tuple[tuple[str, Sequence[str]], ...] = (
    ('P "${HOME:+it\'s}" {v}', ["it's", "V"]),
    ("P {1..2} {v}", ["{1..2}", "V"]),
)


def run(template: str, data: dict[str, Any], shell: Sequence[str], folder: Path) -> str:
    command = CommandTemplate(template, is_bash=shell[0] == "bash")
    command.check(data)
    script, arguments = command.invocation(data)
    done = subprocess.run(
        [part.encode("utf-8", "surrogateescape") for part in (*shell, "-c", script, shell[0], *arguments)],
        cwd=folder,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, (done.stderr, script)
    assert not list(folder.iterdir()), script
    return done.stdout.decode("utf-8", "surrogateescape")


def words(expected: Sequence[str], value: str, values: Sequence[str]) -> str:
    found: list[str] = []
    for word in expected:
        if word == "L":
            found += values
        else:
            # What $(…) returns has no newlines at its end.
            texts = {"J": " ".join(values), "N": str(len(values)), "V": value, "T": value.rstrip("\n")}
            found.append("".join(texts.get(letter, letter) for letter in word))
    return "".join(f"<{word}>" for word in found)


@pytest.mark.parametrize(
    ("template", "expected", "shell"),
    [(*case, shell) for case in CASES for shell in SHELLS]
    + [(*case, SHELLS[0]) for case in BASH_CASES]
    + [(*case, SHELLS[1]) for case in SH_CASES],
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, values=st.lists(VALUES, max_size=3))
def test_any_value_in_any_quoting_reaches_the_program_unchanged(
    template: str, expected: Sequence[str], shell: Sequence[str], value: str, values: list[str], tmp_path: Path
) -> None:
    printed = run(template.replace("P ", PRINT), {"v": value, "l": values}, shell, tmp_path)
    # Without arguments, printf prints its format once.
    assert printed == (words(expected, value, values) or ("<>" if template.startswith("P {l}") else ""))


HEREDOCS = ("cat <<EOF\n{v}\nEOF\n", "cat <<-EOF\n\t{v}\n\tEOF\n", "cat <<A <<B\n{v}\nA\n{v}\nB\n")


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("shell", SHELLS, ids=["bash", "sh"])
def test_hostile_values_execute_nothing_in_a_command_and_in_its_line(
    value: str, shell: Sequence[str], tmp_path: Path
) -> None:
    data = {"v": value, "l": [value, "b"]}
    expected = [(template.replace("P ", PRINT), words(of, value, [value, "b"])) for template, of in CASES]
    for template, output in [*expected, *((template, f"{value}\n") for template in HEREDOCS)]:
        assert run(template, data, shell, tmp_path) == output, template
        line = CommandTemplate(template, is_bash=shell[0] == "bash").line(data)
        done = subprocess.run(
            [part.encode("utf-8", "surrogateescape") for part in (*shell, "-c", line)],
            cwd=tmp_path, capture_output=True, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.stdout.decode("utf-8", "surrogateescape") == output, line
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shell", SHELLS, ids=["bash", "sh"])
def test_line_without_credentials_executes_no_value(shell: Sequence[str], tmp_path: Path) -> None:
    command = CommandTemplate("echo {a}@{b} https://u:{a}@h", is_bash=shell[0] == "bash")
    for a in ("http://u:$(id)x", "http://u:'", "http://h?token='"):
        for b in ("x y;touch pwned;'", "';touch pwned;'", "h$(touch pwned)"):
            subprocess.run([*shell, "-c", shell_line(command, {"a": a, "b": b})], cwd=tmp_path, check=True)
            assert not list(tmp_path.iterdir())


PIECES = st.sampled_from(
    [
        "{v}",
        '"{v}"',
        "'{v}'",
        "a",
        " ",
        '"a \\" b"',
        "'a \" b'",
        "\\'",
        '\\"',
        '"$(printf %s "{v}")"',
        '"it\'s {v}"',
        "$((1))",
        '"$(printf %s \'{v}\' "x\\"")"',
        "=",
        "#",
        "\\\\",
        "\\$",
        '"\\\\{v}"',
        '"`printf b`"',
        "'\\'",
        "{{",
        "}}",
        "x{v}y",
        "{}",
    ]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=8), value=VALUES, shell=st.sampled_from(SHELLS))
def test_template_and_its_filled_in_line_have_the_same_effect(
    pieces: list[str], value: str, shell: Sequence[str], tmp_path: Path
) -> None:
    template = f"{PRINT}{''.join(pieces)}"
    try:
        printed = run(template, {"v": value}, shell, tmp_path)
    except InputError:
        # Braces that are combined by chance.
        assume("{{" not in template and "{}" not in template)
        raise
    line = CommandTemplate(template, is_bash=shell[0] == "bash").line({"v": value})
    again = subprocess.run(
        [part.encode("utf-8", "surrogateescape") for part in (*shell, "-c", line)],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert again.stdout.decode("utf-8", "surrogateescape") == printed
