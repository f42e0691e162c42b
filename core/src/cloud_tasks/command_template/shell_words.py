"""Reader of the words of a shell: quotes, expansions, substitutions, arithmetic.

The text of a template has a `MARK` for each placeholder. Nothing is evaluated.
"""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from cloud_tasks.command_template.fields import MARK, Field, Place
from cloud_tasks.command_template.program_tables import CODE_VARIABLES
from cloud_tasks.command_template.words import Position, UnsafePlaceError, Word

__all__ = ["ALL_POSITIONAL", "BLANKS", "BLANKS_AND_LINES", "NAME", "WordReader"]

ALL_POSITIONAL = "$@"
"""Name of the positional parameters as a whole, as of a variable."""
_LAST_ARGUMENT = "_"
"""Variable with the last argument of the previous command."""
BLANKS = re.compile(r"(?:[ \t]|\\\n)*")
BLANKS_AND_LINES = re.compile(r"(?:[ \t\n]|\\\n|#[^\n]*)*")
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(?:\[.*\])?\+?", re.ASCII | re.DOTALL)
_PARAMETER = re.compile(r"\$\{([!#]?)(\w+|[@*#?$!-])?(\[[^]\0]*\])?(:?[+=?-])?(:)?", re.ASCII)
_POSITIONAL = re.compile(r"[@*]|[0-9]+", re.ASCII)
_POSITIONAL_IN_TEXT = re.compile(r"\$\{?([@*0-9])", re.ASCII)
_EXPANDED = re.compile(r"\$\{?(\w+|[@*])", re.ASCII)
_RANGE = re.compile(r"\{([^{},\s]+?)\.\.([^{},\s]+?)(?:\.\.([^{},\s]+))?\}")
_END_OF_WORD = " \t\n;&|()<>"


class WordReader(ABC):
    """Reads words from the current position of a text.

    Args:
        fields: The placeholders of the text, in order.
        is_bash: Whether bash runs it; else any POSIX shell.
    """

    def __init__(self, text: str, fields: Sequence[Field], *, is_bash: bool) -> None:
        self._text = text
        self._all = fields
        self._is_bash = is_bash
        self._at = 0
        self._count = 0
        """Number of fields that were read."""
        self._arithmetic = 0
        """Number of arithmetic expressions around the current position."""
        self._assigned: list[tuple[str, Sequence[Field]]] = []
        self._assigned_texts: list[tuple[str, str]] = []
        """Texts that are assigned to variables as they are written."""
        self._expanded: list[str] = []
        """Names of the variables that were expanded."""
        self._evaluated: list[str] = []
        """Texts that the shell evaluates as arithmetic, in which names are variables."""
        self._calls = 0
        """Number of calls of functions, whose output may have any value."""
        self._functions: dict[str, str] = {}
        """Functions, and for each the program in it that reads code from its standard input."""

    @abstractmethod
    def _nested(self, closing: str) -> None:
        """Read commands up to the closing word or parenthesis."""

    @abstractmethod
    def _contents(self) -> Sequence[Field]:
        """Return the fields whose values commands may print that have been read."""

    @abstractmethod
    def _nested_output(self) -> None:
        """Read the commands of a process substitution that reads the output of others."""

    def _mark_evaluated(self) -> None:
        """Mark the fields that are assigned to variables which the shell evaluates as arithmetic."""
        for field in self._fields_of(self._evaluated_names()):
            field.is_integer = True

    def _evaluated_names(self) -> frozenset[str]:
        """Return the variables that the shell evaluates as arithmetic, also by way of the text of another one."""
        names: frozenset[str] = frozenset()
        found = frozenset(name for text in self._evaluated for name in self._names_in(text))
        while found - names:
            names |= found
            found = frozenset(
                inner for name, text in self._assigned_texts if name in names for inner in self._names_in(text)
            )
        return names

    # -- fields ----------------------------------------------------------------------------------------------------

    def _record(self, place: Place) -> None:
        """Set the place of the field at the current position, and pass it."""
        field = self._all[self._count]
        field.place = place
        field.is_integer = bool(self._arithmetic)
        self._count += 1
        self._at += 1

    def _since(self, first: int) -> Sequence[Field]:
        return self._all[first : self._count]

    def _fields_of(self, names: Iterable[str]) -> Sequence[Field]:
        """Return the fields whose values were assigned to variables."""
        wanted = frozenset(names)
        last = self._contents() if _LAST_ARGUMENT in wanted else ()
        return [*(field for name, fields in self._assigned if name in wanted for field in fields), *last]

    def _position(self) -> Position:
        return Position(self._count, len(self._expanded), self._calls)

    def _printed(self, start: Position, end: Position | None = None) -> Sequence[Field]:
        """Return the fields that may be in the output of the commands between two positions."""
        end = end or self._position()
        written = [field for field in self._all[start.fields : end.fields] if not field.is_file]
        called = self._contents() if end.calls > start.calls else ()
        return [*written, *self._fields_of(self._expanded[start.expanded : end.expanded]), *called]

    def _expand(self, name: str) -> None:
        """Note the expansion of a variable."""
        self._expanded.append(self._positional_name(name) if _POSITIONAL.fullmatch(name) else name)

    def _positional_name(self, name: str) -> str:
        """Return the name under which a positional parameter is noted; one for all if they are shifted."""
        return ALL_POSITIONAL if name in "@*" or re.search(r"\bshift\b", self._text) else f"${name}"

    def _names_in(self, text: str) -> Iterable[str]:
        """Return the variables in text that the shell evaluates as arithmetic."""
        return [*NAME.findall(text), *map(self._positional_name, _POSITIONAL_IN_TEXT.findall(text))]

    def _assign(self, name: str, fields: Sequence[Field], text: str = "") -> None:
        """Note the assignment of fields, and of text around them, to a variable."""
        if fields and name in CODE_VARIABLES:
            raise UnsafePlaceError(
                fields[0],
                f"programs read code from the variable {name}",
                "use a variable of another name, or a fixed value",
            )
        self._assigned.append((name, fields))
        self._assigned_texts.append((name, text))

    def _refuse_since(self, first: int, problem: str, remedy: str) -> None:
        if self._count > first:
            raise UnsafePlaceError(self._all[first], problem, remedy)

    def _unclosed(self, closing: str) -> UnsafePlaceError:
        field = self._all[0] if self._all else Field("", is_known=True)
        return UnsafePlaceError(field, f"the command has an opening without the closing {closing}", "close it")

    # -- words ------------------------------------------------------------------------------------------------------

    def _word(self, *, one_word: bool = False, may_assign: bool = False) -> Word:
        """Read a word, which may be empty."""
        text, word, start = self._text, Word(), self._position()
        place = Place.ONE_WORD if one_word else Place.WORD
        while self._at < len(text):
            letter = text[self._at]
            if letter == MARK:
                word.text += MARK
                self._record(place)
            elif letter == "\\":
                escaped = text[self._at + 1 : self._at + 2]
                self._at += 2
                word.is_quoted = True
                word.text += "" if escaped == "\n" else escaped
            elif letter == "'":
                self._single_quotes(word)
            elif letter == '"':
                self._double_quotes(word)
            elif letter == "$":
                self._dollar(word, is_quoted=False)
            elif letter == "`":
                word.substituted = self._backquotes()
                word.text += "$()"
            elif letter in "<>" and text.startswith("(", self._at + 1):
                self._process_substitution(word)
            elif letter in _END_OF_WORD:
                break
            elif letter == "[" and may_assign and not word.is_quoted and NAME.fullmatch(word.text):
                self._subscript(word)
            elif letter == "=" and may_assign and not word.assigned and (name := _ASSIGNED.fullmatch(word.text)):
                word.assigned = name[1]
                word.text += "="
                place = Place.ONE_WORD
                self._at += 1
                if text.startswith("(", self._at):
                    self._array(word)
            else:
                word.text += letter
                self._at += 1
        if word.assigned and not word.value:
            word.value = word.text.partition("=")[2]
        if MARK in word.text and not word.is_quoted:
            self._check_range(word.text, self._since(start.fields))
        word.names = frozenset(self._expanded[start.expanded :])
        word.fields = self._printed(start)
        return word

    def _check_range(self, text: str, fields: Sequence[Field]) -> None:
        for match in _RANGE.finditer(text):
            if MARK in match[0]:
                texts = match[0].split(MARK)
                for field in fields[text[: match.start()].count(MARK) :][: len(texts) - 1]:
                    texts[0:2] = [f"{texts[0]}{field.text}{texts[1]}"]
                first, last, step = (*texts[0][1:-1].split(".."), "")[:3]
                seq = " ".join(filter(None, (first, step, last)))
                raise UnsafePlaceError(fields[0], "the shell expands a range before values", f"use $(seq {seq})")

    def _single_quotes(self, word: Word) -> None:
        self._at += 1
        word.is_quoted = True
        while not self._text.startswith("'", self._at):
            self._quoted_letter(word, Place.SINGLE, "'")
        self._at += 1

    def _quoted_letter(self, word: Word, place: Place, closing: str) -> None:
        if self._at >= len(self._text):
            raise self._unclosed(closing)
        letter = self._text[self._at]
        word.text += letter
        if letter == MARK:
            self._record(place)
        else:
            self._at += 1

    def _ansi_quotes(self, word: Word) -> None:
        self._at += 2
        word.is_quoted = True
        while not self._text.startswith("'", self._at):
            if self._text.startswith("\\", self._at):
                word.text += self._text[self._at : self._at + 2]
                self._at += 2
            else:
                self._quoted_letter(word, Place.ANSI, "'")
        self._at += 1

    def _double_quotes(self, word: Word) -> None:
        self._at += 1
        word.is_quoted = True
        while not self._text.startswith('"', self._at):
            letter = self._text[self._at : self._at + 1]
            if letter == "\\":
                escaped = self._text[self._at + 1 : self._at + 2]
                word.text += "" if escaped == "\n" else escaped if escaped in '"\\$`' else f"\\{escaped}"
                self._at += 2
            elif letter == "$":
                self._dollar(word, is_quoted=True)
            elif letter == "`":
                word.substituted = self._backquotes()
                word.text += "$()"
            else:
                self._quoted_letter(word, Place.DOUBLE, '"')
        self._at += 1

    def _backquotes(self) -> str:
        """Read a command substitution in backquotes; return its text."""
        first = self._count
        self._at += 1
        start = self._at
        inner = Word()
        while not self._text.startswith("`", self._at):
            if self._text.startswith("\\", self._at):
                self._at += 2
            else:
                self._quoted_letter(inner, Place.WORD, "`")
        self._at += 1
        self._refuse_since(first, "it stands inside backquotes", "use $(…) instead")
        code = self._text[start : self._at - 1]
        for name in _EXPANDED.findall(code):
            self._expand(name)
        self._calls += not self._functions.keys().isdisjoint(re.findall(r"[^\s;|&()$`]+", code))
        return code

    def _process_substitution(self, word: Word) -> None:
        start = self._position()
        is_output = self._text.startswith(">", self._at)
        self._at += 2
        self._nested_output() if is_output else self._nested(")")
        word.has_process = word.has_process or bool(self._printed(start))
        word.text += "<()"

    def _comment(self) -> None:
        while self._at < len(self._text) and self._text[self._at] != "\n":
            if self._text[self._at] == MARK:
                self._record(Place.COMMENT)
            else:
                self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        while match is not None and self._at < match.end():
            # Placeholders in comments.
            if self._text[self._at] == MARK:
                self._record(Place.COMMENT)
            else:
                self._at += 1

    # -- expansions -------------------------------------------------------------------------------------------------

    def _dollar(self, word: Word, *, is_quoted: bool) -> None:
        text, at = self._text, self._at
        word.has_expansion = True
        if text.startswith("$((", at) and self._try_arithmetic(3):
            word.text += "$()"
        elif text.startswith("$(", at):
            self._at += 2
            self._nested(")")
            word.substituted = text[at + 2 : self._at - 1]
            word.text += "$()"
        elif text.startswith("${", at):
            self._parameter(is_quoted=is_quoted)
            word.text += "$"
        elif text.startswith("$[", at):
            self._at += 2
            self._arithmetic_until("]")
            word.text += "$()"
        elif text.startswith("$'", at) and not is_quoted:
            if not self._is_bash:
                raise UnsafePlaceError(self._all[0], "shells read the $'…' in the command differently", "use bash")
            self._ansi_quotes(word)
        elif text.startswith('$"', at) and not is_quoted:
            self._at += 1
            self._double_quotes(word)
        else:
            name = NAME.match(text, at + 1) or _POSITIONAL.match(text, at + 1, at + 2)
            if name is not None:
                self._expand(name[0])
            word.text += "$"
            self._at += 1

    def _parameter(self, *, is_quoted: bool) -> None:
        first, match = self._count, _PARAMETER.match(self._text, self._at)
        assert match is not None
        # Within double quotes, apostrophes in a default value are plain characters, but not for bash.
        has_quotes = self._is_bash or not (is_quoted and match[4])
        self._expand(match[2] or "")
        self._evaluated.append(match[3] or "")
        start = self._at = match.end()
        position, inner = self._position(), Word()
        while not self._text.startswith("}", self._at):
            letter = self._text[self._at : self._at + 1]
            if letter == "\\":
                self._at += 2
            elif letter == "'" and has_quotes:
                self._single_quotes(inner)
            elif letter == '"':
                self._double_quotes(inner)
            elif letter == "$":
                self._dollar(inner, is_quoted=is_quoted)
            elif letter == "`":
                self._backquotes()
            else:
                self._quoted_letter(inner, Place.WORD, "}")
        rest = self._text[start : self._at]
        if match[4] and "=" in match[4]:
            self._assign(match[2] or "", self._printed(position), rest)
        if match[5]:
            self._evaluated.append(rest)
        if match[1] == "!" or rest == "@P":
            self._evaluated.append(match[2] or "")
        self._at += 1
        self._refuse_since(
            first, "it stands inside ${…}", "assign the value to a variable first, as in: value={name}; echo ${value#x}"
        )

    def _try_arithmetic(self, length: int) -> bool:
        """Read arithmetic that ends with ``))``; if it is none, as in ``((a); b)``, read nothing and return False."""
        state = (self._at, self._count, len(self._evaluated), len(self._expanded))
        self._at += length
        with contextlib.suppress(UnsafePlaceError):
            if self._arithmetic_until("))"):
                return True
        self._at, self._count = state[:2]
        del self._evaluated[state[2] :], self._expanded[state[3] :]
        return False

    def _arithmetic_until(self, closing: str) -> bool:
        """Read arithmetic and what closes it; return whether it is closed."""
        start, depth, inner = self._at, 0, Word()
        opening = "[" if closing == "]" else "("
        self._arithmetic += 1
        try:
            while self._at < len(self._text):
                letter = self._text[self._at]
                if letter == MARK:
                    self._record(Place.ARITHMETIC)
                elif letter == "\\":
                    self._at += 2
                elif letter == "'":
                    self._single_quotes(inner)
                elif letter == '"':
                    self._double_quotes(inner)
                elif letter == "$":
                    self._dollar(inner, is_quoted=True)
                elif letter == "`":
                    self._backquotes()
                elif letter == closing[0] and not depth:
                    is_closed = self._text.startswith(closing, self._at)
                    self._evaluated.append(self._text[start : self._at])
                    self._at += len(closing)
                    return is_closed
                else:
                    depth += (letter == opening) - (letter == closing[0])
                    self._at += 1
            return False
        finally:
            self._arithmetic -= 1

    def _subscript(self, word: Word) -> None:
        """Read the subscript of an assignment to a member of an array."""
        start = self._at
        self._at += 1
        self._arithmetic_until("]")
        word.text += self._text[start : self._at]

    def _array(self, word: Word) -> None:
        """Read the members of an array."""
        self._at += 1
        while self._at < len(self._text):
            self._skip(BLANKS_AND_LINES)
            if self._text.startswith(")", self._at):
                break
            before = self._at
            member = self._word()
            if member.text.startswith("["):
                subscript = member.text.partition("]=")[0]
                for field in member.fields[: subscript.count(MARK) if member.is_direct else None]:
                    field.is_integer = True
                self._evaluated.append(subscript)
            word.value += f" {member.text}"
            word.members = [*word.members, member]
            if self._at == before:
                self._at += 1
        self._at += 1
        word.text += "()"
