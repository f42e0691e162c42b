"""Escaping: one rule for each language that text from outside is put into.

Shell, file name, terminal, CSV, HTML and URL each have one function here, and no other code escapes for them. For
SQLite, values are bound as parameters, never put into a statement; what may be bound is decided in
`cloud_tasks.sanitize`. Standard library only, and light: task processes load this module.

Invariants, each with a test over arbitrary text:

1. A shell reads `shell_word` as one word with exactly the characters of the text, and so does Bash with `printed_word`,
   which is printable.
2. Two identifiers never have one file name, and a file name fits every file system.
3. Text for a terminal has no control character, and text in one line has no line break and no URL with credentials.
4. A cell of a CSV file is no formula; HTML text has no markup; a URL segment has no delimiter.
"""

from __future__ import annotations

import re

__all__ = [
    "csv_cell",
    "file_name",
    "html_text",
    "printed_word",
    "shell_word",
    "terminal_line",
    "terminal_text",
    "without_credentials",
]

_DIGEST_LENGTH = 20
"""Hexadecimal digits, 80 bits: two of 10^7 identifiers share a digest with a probability of 4e-11 (birthday bound)."""
_LIKE_A_DIGEST = rf"-[0-9a-f]{{{_DIGEST_LENGTH}}}\Z"
_MAX_NAME_BYTES = 200
"""File systems allow 255 bytes; the rest is for the suffixes of drafts."""

# Patterns are compiled when they are first used: every process loads this module, and most need none of them.
# C0 and C1 controls, DEL, line separators, marks that change the direction of text, lone surrogates.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_IN_A_LINE = f"[{_CONTROLS}]"
_IN_TEXT = f"(?![\n\t])[{_CONTROLS}]"
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_CREDENTIALS = r"(?i)(?<=://)[^/?#\s]*:[^/?#\s]*@|(?<=https://)[^/?#\s]*@|(?<=http://)[^/?#\s]*@"
_SECRET_PARAMETER = (
    r"(?i)([?&;#]"
    r"(?:[\w.%-]*(?:token|secret|signature|credential|passw|pwd|auth|key|session|jwt)[\w.%-]*|sig|code|x-(?:amz|goog)-[\w-]*)"
    r")=[^&#\s\"'<>`\\;]+?(?=[:,.)]*(?:[&#\s\"'<>`\\;]|\Z))"
)
"""A parameter of a URL with a secret; of a signed URL also those that differ each time it is signed."""


def shell_word(text: str) -> str:
    """Return text as one word of a POSIX shell.

    Raises:
        ValueError: The text contains NUL, which no argument can.
    """
    if "\0" in text:
        raise ValueError("a NUL character cannot be part of a command")
    import shlex

    return shlex.quote(text)


def printed_word(text: str) -> str:
    r"""Return text as one word of a command to copy from a terminal: ``$'\x1b'`` for control characters.

    Bash, zsh and ksh read it. NUL, which no argument can contain, is left out.
    """
    text = text.replace("\0", "")
    if not re.search(_IN_A_LINE, text):
        return shell_word(text)
    encoded = text.encode("utf-8", "surrogateescape" if _is_path_text(text) else "surrogatepass")
    parts = (chr(byte) if 0x20 <= byte < 0x7F and chr(byte) not in "\\'" else f"\\{byte:03o}" for byte in encoded)
    return f"$'{''.join(parts)}'"


def _is_path_text(text: str) -> bool:
    """Return whether text has only those surrogates that stand for undecodable bytes."""
    return not any(0xD800 <= ord(letter) < 0xDC80 or 0xDD00 <= ord(letter) < 0xE000 for letter in text)


def file_name(identifier: str, suffix: str = "") -> str:
    """Return the name of a file or object for an identifier, such as a task id; the same for the same arguments.

    Letters, digits and ``-_.,=+@`` stay, anything else becomes ``_``; a name that differs from the identifier, is too
    long, or looks like one that does gets a digest.
    """
    name = "".join(letter if letter.isalnum() or letter in "-_.,=+@" else "_" for letter in identifier)
    room = _MAX_NAME_BYTES - len(suffix.encode())
    is_plain = name == identifier and name[:1] not in ("", ".", "-") and not re.search(_LIKE_A_DIGEST, name)
    if is_plain and len(name.encode()) <= room:
        return name + suffix
    import hashlib

    digest = hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    head = name.lstrip(".-").encode()[: room - _DIGEST_LENGTH - 1].decode("utf-8", "ignore")
    return f"{head or '_'}-{digest}{suffix}"


def terminal_line(text: str) -> str:
    r"""Return text for one line of a terminal or log: control characters and line breaks as ``\x1b``, ``\n``.

    URLs are shown without credentials.
    """
    text = without_credentials(text)
    return text if text.isprintable() else re.sub(_IN_A_LINE, _escaped, text)


def terminal_text(text: str) -> str:
    r"""Return text of several lines for a terminal: as `terminal_line`, but line breaks and tabs stay.

    A carriage return, with which a progress bar redraws its line, becomes a line break.
    """
    return re.sub(_IN_TEXT, _escaped, text.replace("\r\n", "\n").replace("\r", "\n"))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


_FORMULA = re.compile(r"[\s\x00-\x20\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""Begin of a formula, also in the full-width characters that a spreadsheet may take for the usual ones."""


def csv_cell(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula: with an apostrophe before ``=``, ``+``, ``-``, ``@``.

    Blanks and control characters before them do not count, for a spreadsheet may drop these. A number keeps its sign.
    The csv module quotes delimiters.
    """
    if text[:1] not in ("\t", "\r", "\n") and not _FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def html_text(text: str) -> str:
    """Return text for an element or a quoted attribute of HTML, with control characters visible."""
    import html

    return html.escape(re.sub(_IN_TEXT, _escaped, text), quote=True)


def without_credentials(text: str) -> str:
    """Return text in which no URL has credentials: ``https://user:token@host`` becomes ``https://host``.

    Parameters with a secret keep their name: ``?token=***``. A user name alone stays, as in ``ssh://git@host``,
    unless the scheme is HTTP, where it may be a token.
    """
    if "://" not in text:
        return text
    return re.sub(_SECRET_PARAMETER, r"\1=***", re.sub(_CREDENTIALS, "", text))
