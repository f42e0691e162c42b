"""Code blocks of the documentation, fenced and indented, with their markers.

A marker is a comment in the line above the block: ``<!-- run -->``, ``<!-- not run: needs an account -->``,
``<!-- from: path -->``, ``<!-- fragment -->``, ``<!-- file: name -->``; several may stand one above the other.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ["Block", "blocks_of", "commands_of"]

_MARKER = re.compile(r"<!-- (run|fragment|from|file|not run)(?:: (.+?))? -->")
_NAME = re.compile(r"# ([\w.-]+\.(?:py|yml|yaml|json|jsonl|sh|toml))")
_SEPARATOR = re.compile(r"[();<>|&]+")
_LEADS = ("do", "then", "else", "if", "while", "until", "!")
_FRAMES = ("for", "done", "fi")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


@attrs.frozen(kw_only=True)
class Block:
    """One code block."""

    page: str
    """Path of its page, relative to the root."""
    line: int
    """Number of its first line."""
    language: str
    """``shell`` for an indented one."""
    text: str
    markers: dict[str, str]
    """Each with what stands behind its colon, empty where nothing does."""

    @property
    def file(self) -> str | None:
        """Name of the file with this content, from the marker or the first line."""
        found = _NAME.fullmatch(self.text.partition("\n")[0].strip())
        return self.markers.get("file") or (found[1] if found else None)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(root: Path, page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [
        Block(
            page=page.relative_to(root).as_posix(),
            line=first + 1,
            language=language,
            text="\n".join(content),
            markers=_markers(lines, above),
        )
        for above, first, language, content in _spans(lines)
    ]


def commands_of(text: str) -> list[list[str]]:
    """Return the words of each simple command of a shell text, without comments, redirections and assignments."""
    commands: list[list[str]] = []
    for line in _logical_lines(text.replace("\\\n", " ")):
        words: list[str] = []
        for word in [*_words(line), ";"]:
            if not _SEPARATOR.fullmatch(word):
                words.append(word)
                continue
            while words and (words[0] in _LEADS or _ASSIGNMENT.fullmatch(words[0])):
                del words[0]
            if words and words[0] not in _FRAMES:
                commands.append(words)
            # What follows a redirection is the name of a file.
            words = ["#file"] if word.startswith((">", "<")) else []
    return [command for command in commands if command[0] != "#file"]


def _logical_lines(text: str) -> Iterator[str]:
    """Return the lines of a shell text; quoted text may span several."""
    begun = ""
    for line in text.splitlines():
        begun += line
        try:
            _words(begun)
        except ValueError:
            begun += "\n"
            continue
        yield begun
        begun = ""
    assert not begun, f"a quotation has no end: {begun}"


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def _spans(lines: list[str]) -> Iterator[tuple[int, int, str, list[str]]]:
    """Return the line above each block, its first line (both from 0), its language and its lines."""
    at = 0
    while at < len(lines):
        fence = re.fullmatch(r"( *)```(\w*)", lines[at])
        if fence:
            end = lines.index(f"{fence[1]}```", at + 1)
            yield at - 1, at + 1, fence[2], [line.removeprefix(fence[1]) for line in lines[at + 1 : end]]
            at = end + 1
        elif lines[at].startswith("    ") and at and not lines[at - 1].strip() and not _is_in_list(lines, at):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            content = [line[4:] for line in lines[at:end]]
            while not content[-1]:
                content.pop()
            yield at - 2, at, "shell", content
            at = end
        else:
            at += 1


def _is_in_list(lines: list[str], at: int) -> bool:
    """Return whether an indented line continues a list item."""
    above = next((line for line in reversed(lines[:at]) if line.strip() and not line.startswith("  ")), "")
    return re.match(r"([-*]|\d+\.) ", above) is not None


def _markers(lines: list[str], above: int) -> dict[str, str]:
    found: dict[str, str] = {}
    while above >= 0 and (marker := _MARKER.fullmatch(lines[above].strip())):
        found[marker[1]] = marker[2] or ""
        above -= 1
    return found
