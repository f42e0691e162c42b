"""`cloud_tasks.escape`: whatever the text, the language it is put into reads it as text."""

from __future__ import annotations

import csv
import html.parser
import io
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cloud_tasks.errors import InputError
from cloud_tasks.escape import (
    csv_cell,
    file_name,
    html_text,
    printed_word,
    shell_word,
    terminal_line,
    terminal_text,
    without_credentials,
)

TEXT = st.text(st.characters())
"""Text with lone surrogates and control characters."""


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
@settings(max_examples=60)
@example("$(touch pwned)")
@example("x'; touch pwned; '")
@example("`touch pwned`\n\\")
@example("")
def test_shell_reads_a_word_as_it_was(text: str) -> None:
    printed = subprocess.run(["/bin/sh", "-c", f"printf %s {shell_word(text)}"], capture_output=True, check=True).stdout
    assert printed == text.encode()


@given(st.text(st.characters(exclude_characters="\0"), max_size=30))
@settings(max_examples=60)
@example("a\u202e\x07b")
@example("\x1b[2J'\\")
@example("a\nb")
@example("caf\udce9\x01")
@example("\ud800\x01")
@example("")
def test_bash_reads_a_printed_word_as_it_was(text: str) -> None:
    word = printed_word(text)
    assert terminal_line(word) == word
    assume(not any(0xD800 <= ord(letter) < 0xDC80 or 0xDD00 <= ord(letter) < 0xE000 for letter in text))
    line = f"printf %s {word}".encode("utf-8", "surrogateescape")
    printed = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert printed == text.encode("utf-8", "surrogateescape")


def test_shell_word_refuses_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        shell_word("a\0b")


@given(TEXT, TEXT)
@example("a\nb", "a_b-ef0790fb")
@example("数" * 120, "数" * 121)
@example("a/b", file_name("a/b"))
@example("x" * 251, "x" * 252)
@example("..", "__")
def test_file_names_are_different_for_different_identifiers(first: str, second: str) -> None:
    assume(first != second)
    assert file_name(first, ".1.log") != file_name(second, ".1.log")
    assert file_name(file_name(first)) == file_name(first) or file_name(first) != first


@given(TEXT)
@example("数" * 120)
@example("x" * 5000)
@example("../../etc/passwd")
@example("")
def test_file_name_fits_every_file_system(identifier: str) -> None:
    name = file_name(identifier, ".1.json")
    assert "/" not in name
    assert "\0" not in name
    assert name[0] not in ".-"
    assert len(name.encode()) <= 200
    assert name.endswith(".1.json")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{name}.4194304.part").touch()


@pytest.mark.parametrize("identifier", ["task-17", "seed=1,mode=fast", "数据-1", "a.b@c+d", "x" * 190])
def test_file_name_of_a_plain_identifier_is_its_own_file_name(identifier: str) -> None:
    assert file_name(identifier, ".1.log") == f"{identifier}.1.log"


@given(TEXT)
@example("\x1b]0;title\x07\x1b[2J")
@example("a\nb\x1b[31mred")
@example("\x9b31m\u202eabc\u2028")
def test_text_for_a_terminal_has_no_control_character(text: str) -> None:
    line, several = terminal_line(text), terminal_text(text)
    for shown, allowed in ((line, ""), (several, "\n\t")):
        assert not [
            c for c in shown if c not in allowed and (ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000)
        ]
        shown.encode()
    assert len(line.splitlines()) <= 1


def test_text_for_a_terminal_stays_readable() -> None:
    assert terminal_line("naïve 数据\u3000\u00a0👩‍🔬") == "naïve 数据\u3000\u00a0👩‍🔬"
    assert terminal_line("a\nb\tc\x1b") == "a\\nb\\tc\\x1b"
    assert terminal_text("10%\r20%\r\nend\tx\x07") == "10%\n20%\nend\tx\\x07"


@given(TEXT)
@example("=1+1")
@example("=cmd|' /C calc'!A0")
@example("@SUM(A1)")
@example("-5")
@example("\n=1")
@example(" \t\n+1+A1")
@example("\xa0@SUM(A1)")
@example("\x1f=1")
@example("\uff1d1")
def test_csv_cell_is_no_formula(text: str) -> None:
    cell = csv_cell(text)
    try:
        float(text)
    except ValueError:
        assert cell[:1] not in ("\t", "\r", "\n")
        assert cell.lstrip("".join(map(chr, range(33))) + "\x85\xa0")[:1] not in ("=", "+", "-", "@", "\uff1d")
    assert cell in (text, f"'{text}")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_csv_cell_is_read_as_it_was_written(text: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerow([csv_cell(text), "end"])
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [[csv_cell(text), "end"]]


@given(TEXT)
@example("<script>alert(1)</script>")
@example("\" onmouseover='x'")
def test_html_text_has_no_markup(text: str) -> None:
    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            raise AssertionError(tag)

    escaped = html_text(text)
    Reader().feed(escaped)
    assert not set(escaped) & set("<>\"'")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:ghp_SECRET@github.com/me/x.git", "https://github.com/me/x.git"),
        ("https://ghp_SECRET@github.com/me/x.git", "https://github.com/me/x.git"),
        ("ssh://git@host/x.git", "ssh://git@host/x.git"),
        ("redis://:p@ss@host:6379/0 and https://u:p@h/x", "redis://host:6379/0 and https://h/x"),
        ("git@github.com:me/x.git", "git@github.com:me/x.git"),
        ("https://host/path@v1?q=a@b", "https://host/path@v1?q=a@b"),
        ("HTTPS://u:SECRET@host/x", "HTTPS://host/x"),
        ("https://h/x?a=1&token=SECRET&b=2", "https://h/x?a=1&token=***&b=2"),
        ("https://h/x?X-Amz-Date=2&X-Amz-Signature=SECRET", "https://h/x?X-Amz-Date=***&X-Amz-Signature=***"),
        ("https://h/x?sv=1&sig=a%2Fb%3D", "https://h/x?sv=1&sig=***"),
        ('"https://h/x?api_key=SECRET"', '"https://h/x?api_key=***"'),
        ("https://h/x?sig=SECRET: file not found", "https://h/x?sig=***: file not found"),
        ("https://h/x#access_token=SECRET", "https://h/x#access_token=***"),
        ("https://h/x?page=2&sort=name", "https://h/x?page=2&sort=name"),
        ("program --x=?token=a", "program --x=?token=a"),
    ],
)
def test_credentials_are_removed_from_urls(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


@given(st.text("abc:@%", max_size=10))
def test_credentials_are_removed_whatever_they_are(userinfo: str) -> None:
    assert urlsplit(without_credentials(f"https://{userinfo}@host/x")).username is None


@given(st.text(max_size=8), st.text(max_size=8))
def test_lines_and_errors_show_no_credentials(before: str, after: str) -> None:
    url = "http://user:SECRETPW@host/404.json?token=SECRETPW"
    error = InputError(f"{before}{url} {after}", where=url, hint=url)
    for text in (terminal_line(f"{before}{url} {after}"), str(error), error.message, error.hint, error.where):
        assert "SECRETPW" not in text
