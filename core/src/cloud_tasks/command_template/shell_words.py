"""Reader of the words of a shell: quotes, expansions, substitutions, arithmetic.

The text of a template has a `MARK` for each placeholder. Nothing is evaluated.
"""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cloud_tasks.command_template.fields import MARK, Field, Place
from cloud_tasks.command_template.program_tables import COMPUTED_VARIABLES, NUMBER_OUTPUT, SETUP_OUTPUT
from cloud_tasks.command_template.words import Content, Facts, UnsafePlaceError, Word, content_of

__all__ = ["ALL_POSITIONAL", "BLANKS", "BLANKS_AND_LINES", "NAME", "WordReader"]

ALL_POSITIONAL = "$@"
"""Name of the positional parameters as a whole, as of a variable."""
BLANKS = re.compile(r"(?:[ \t]|\\\n)*")
BLANKS_AND_LINES = re.compile(r"(?:[ \t\n]|\\\n|#[^\n]*)*")
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(?:\[.*\])?\+?", re.ASCII | re.DOTALL)
_PARAMETER = re.compile(r"\$\{([!#]?)(\w+|[@*#?$!-])?", re.ASCII)
_OPERATOR = re.compile(r":?[+=?-]|:")
_LISTED = re.compile(r"\[[@*]\]|[@*](?=\})")
_POSITIONAL = re.compile(r"[@*]|[0-9]+", re.ASCII)
_POSITIONAL_IN_TEXT = re.compile(r"\$\{?([@*]|[0-9]+)", re.ASCII)
_SPECIAL = re.compile(r"[?#$!-]")
_COMPUTED = re.compile(r"\$\(\)|[\w$]\$|\$#?\w|[\\{}*?\0]")
_NUMBERS = re.compile(r"\{-?[0-9]+\.\.-?[0-9]+(?:\.\.-?[0-9]+)?\}")
_RANGE = re.compile(r"\{([^{},\s]+?)\.\.([^{},\s]+?)(?:\.\.([^{},\s]+))?\}")
_END_OF_WORD = " \t\n;&|()<>"


class _Position(NamedTuple):
    """What has been read within the current word."""

    direct: int
    """Placeholders."""
    expanded: int
    """Expansions of variables."""
    substituted: int
    """Substitutions."""


class WordReader(ABC):
    """Reads words from the current position of a text.

    Args:
        fields: The placeholders of the text, in order.
        is_bash: Whether bash runs it; else any POSIX shell.
    """

    def __init__(self, text: str, fields: Sequence[Field], facts: Facts, *, is_bash: bool) -> None:
        self._text = text
        self._all = fields
        self._facts = facts
        self._is_bash = is_bash
        self._at = 0
        self._count = 0
        """Number of fields that were read."""
        self._arithmetic = 0
        """Number of arithmetic expressions around the current position."""
        self._direct: list[Field] = []
        self._expanded: list[str] = []
        self._substituted: list[Content] = []
        self._outputs: list[Content] = []
        """What the commands print that were read, in the innermost substitution."""

    @abstractmethod
    def _nested(self, closing: str) -> None:
        """Read commands up to the closing word or parenthesis."""

    @abstractmethod
    def _code(self, text: str, arguments: Sequence[Word] | None) -> None:
        """Read code within the command, with its arguments from ``$0`` if it has any of its own."""

    # -- fields and contents ---------------------------------------------------------------------------------------

    def _record(self, place: Place) -> None:
        """Set the place of the field at the current position, and pass it."""
        field = self._all[self._count]
        field.place = place
        field.is_integer = bool(self._arithmetic)
        self._direct.append(field)
        self._count += 1
        self._at += 1

    def _position(self) -> _Position:
        return _Position(len(self._direct), len(self._expanded), len(self._substituted))

    def _content(self, start: _Position) -> Content:
        """Return what may be in a text that was read since a position."""
        names = self._expanded[start.expanded :]
        special = next((name for name in names if name in COMPUTED_VARIABLES), "")
        return content_of(
            (
                Content(tuple(self._direct[start.direct :])),
                *self._facts.contents(names),
                *self._substituted[start.substituted :],
                Content(unknown=f"${special}" if special else ""),
            )
        )

    def _forget(self, start: _Position) -> None:
        """Forget what was read since a position: it is in no word."""
        del self._direct[start.direct :], self._expanded[start.expanded :], self._substituted[start.substituted :]

    def _note(self, reason: str) -> None:
        """Note why values must be plain text."""
        self._facts.plain = self._facts.plain or reason

    def _expand(self, name: str) -> None:
        """Note the expansion of a variable; all positional parameters have one name, most also one of their own."""
        if _POSITIONAL.fullmatch(name):
            self._expanded.append(ALL_POSITIONAL)
            name = ALL_POSITIONAL if name in "@*1" and not re.search(r"\bshift\b", self._text) else f"${name}…"
        self._expanded.append(name)

    def _evaluate(self, text: str, start: _Position) -> None:
        """Note that the shell evaluates text, and what was read since a position, as arithmetic."""
        names = [*self._names_in(text), *self._expanded[start.expanded :]]
        self._facts.evaluated |= dict.fromkeys(names)
        for content in self._substituted[start.substituted :]:
            self._note_evaluated(content)
        # In arithmetic, asterisks and question marks are operators.
        self._check_evaluated(re.sub(r"[*?{}]", " ", text))

    def _note_evaluated(self, content: Content) -> None:
        if content.fields or content.unknown:
            origin = content.unknown or f"text with {content.fields[0].text}"
            self._note(f"the shell evaluates {origin} as arithmetic")

    def _check_evaluated(self, text: str) -> None:
        """Note that the shell evaluates text as arithmetic in which names of variables may be computed."""
        if text.strip() != "$" and _COMPUTED.search(_NUMBERS.sub("", text)):
            self._note_evaluated(Content(unknown="computed text"))

    def _evaluate_word(self, word: Word) -> None:
        """Note that the shell evaluates a word as arithmetic."""
        for field in word.fields if word.is_direct else ():
            field.is_integer = True
        self._facts.evaluated |= dict.fromkeys((*word.names, *self._names_in(word.text)))
        self._note_evaluated(Content(() if word.is_direct or word.text == "$" else word.fields, word.unknown))
        self._check_evaluated(word.text.replace(MARK, ""))

    def _names_in(self, text: str) -> Iterable[str]:
        """Return the variables in text that the shell evaluates as arithmetic."""
        return [*NAME.findall(text), *([ALL_POSITIONAL] if _POSITIONAL_IN_TEXT.search(text) else ())]

    def _mark_evaluated(self) -> None:
        """Mark the fields that are values of variables which the shell evaluates as arithmetic."""
        names = list(self._facts.evaluated)
        for name in names:
            if name in COMPUTED_VARIABLES:
                self._note_evaluated(Content(unknown=f"${name}"))
            variable = self._facts.variables.get(name)
            if variable is None:
                continue
            for field in variable.exact:
                field.is_integer = True
            others = tuple(field for field in variable.fields if field not in variable.exact)
            self._note_evaluated(Content(others, variable.unknown))
            for text in variable.texts:
                self._check_evaluated("" if text == MARK else text)
            found = [*variable.names, *(inner for text in variable.texts for inner in self._names_in(text))]
            names += [inner for inner in dict.fromkeys(found) if inner not in self._facts.evaluated]
            self._facts.evaluated |= dict.fromkeys(found)

    def _refuse_since(self, first: int, problem: str, remedy: str) -> None:
        if self._count > first:
            raise UnsafePlaceError(self._all[first], problem, remedy)

    def _unclosed(self, closing: str) -> UnsafePlaceError:
        return self._malformed(f"the command has an opening without the closing {closing}", "close it")

    def _malformed(self, problem: str, remedy: str) -> UnsafePlaceError:
        return UnsafePlaceError(self._all[0] if self._all else Field("", is_known=True), problem, remedy)

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
                self._backquotes(word)
                word.splits = True
            elif letter in "<>" and text.startswith("(", self._at + 1):
                self._process_substitution(word)
            elif letter in _END_OF_WORD:
                break
            elif letter == "[" and may_assign and not word.is_quoted and NAME.fullmatch(word.text):
                self._at += 1
                self._arithmetic_until("]")
                word.text += "[]"
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
            self._check_range(word.text, self._direct[start.direct :])
        word.names = frozenset(self._expanded[start.expanded :])
        word.fields, word.unknown, _ = self._content(start)
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
                self._backquotes(word)
            else:
                self._quoted_letter(word, Place.DOUBLE, '"')
        self._at += 1

    def _backquotes(self, word: Word) -> None:
        """Read a command substitution in backquotes."""
        first, position, outputs = self._count, self._position(), len(self._outputs)
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
        code = re.sub(r"\\([\\$`])", r"\1", self._text[start : self._at - 1])
        self._code(code, None)
        self._substitution(word, code, position, outputs)

    def _substitution(self, word: Word, code: str, start: _Position, outputs: int) -> None:
        """Note a command substitution that was read, in a word."""
        printed = content_of(self._outputs[outputs:])
        del self._outputs[outputs:]
        self._forget(start)
        defined = not self._facts.functions.keys().isdisjoint(re.findall(r"[\w-]+", code))
        is_number = not defined and NUMBER_OUTPUT.fullmatch(code) is not None
        if not is_number and (defined or not SETUP_OUTPUT.fullmatch(code)):
            # Text that is written in the command may be the name of a variable.
            self._substituted.append(printed if any(printed) else Content(unknown="the output of a command"))
        word.has_expansion = True
        word.substituted = code
        word.text += "$#" if is_number else "$()"

    def _process_substitution(self, word: Word) -> None:
        start, outputs, arithmetic = self._position(), len(self._outputs), self._arithmetic
        self._at += 2
        self._arithmetic = 0
        self._nested(")")
        self._arithmetic = arithmetic
        printed = self._outputs[outputs:] or [Content(unknown="the output of a command")]
        del self._outputs[outputs:]
        self._forget(start)
        self._substituted.append(content_of(printed))
        word.has_process = True
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
        if text.startswith("$((", at) and self._try_arithmetic(3):
            word.text += "$#"
        elif text.startswith("$(", at):
            start, outputs, arithmetic = self._position(), len(self._outputs), self._arithmetic
            self._at += 2
            self._arithmetic = 0
            self._nested(")")
            self._arithmetic = arithmetic
            self._substitution(word, text[at + 2 : self._at - 1], start, outputs)
        elif text.startswith("${", at):
            self._parameter(word, is_quoted=is_quoted)
        elif text.startswith("$[", at):
            self._at += 2
            self._arithmetic_until("]")
            word.text += "$#"
        elif text.startswith("$'", at) and not is_quoted:
            if not self._is_bash:
                raise self._malformed("shells read the $'…' in the command differently", "use bash")
            self._ansi_quotes(word)
        elif text.startswith('$"', at) and not is_quoted:
            self._at += 1
            self._double_quotes(word)
        else:
            name = NAME.match(text, at + 1) or _POSITIONAL.match(text, at + 1, at + 2)
            if name is not None:
                self._expand(name[0])
            special = name or _SPECIAL.match(text, at + 1)
            word.text += "$" if special is name else "$()" if special and special[0] == "-" else "$#"
            self._at = special.end() if special else at + 1
        word.has_expansion = True
        word.splits |= not is_quoted and not text.startswith(("$'", '$"'), at)

    def _parameter(self, word: Word, *, is_quoted: bool) -> None:
        """Read ``${…}``."""
        match = _PARAMETER.match(self._text, self._at)
        assert match is not None
        prefix, name = match[1], match[2] or ""
        self._at = match.end()
        listed = _LISTED.match(self._text, self._at)
        if listed is not None:
            self._at = listed.end()
        has_subscript = listed is None and bool(name) and self._text.startswith("[", self._at)
        if has_subscript:
            self._at += 1
            self._arithmetic_until("]")
        is_keys = prefix == "!" and listed is not None
        # The length of a value is a number.
        if name and prefix != "#" and not is_keys:
            self._expand(name)
        is_pure = not (prefix or has_subscript) and self._text.startswith("}", self._at)
        operator = _OPERATOR.match(self._text, self._at)
        first, start, begins = self._count, self._position(), self._at
        if operator is not None:
            self._at = operator.end()
        # Within double quotes, apostrophes in a default value are plain characters, but not for bash.
        has_quotes = self._is_bash or not (is_quoted and operator and operator[0] != ":")
        self._parameter_word(has_quotes=has_quotes, is_quoted=is_quoted)
        rest = self._text[begins : self._at]
        if operator is not None and "=" in operator[0]:
            self._facts.assign(name, self._content(start), rest[len(operator[0]) :], names=self._expanded[start[1] :])
        if operator is not None and operator[0] == ":":
            self._evaluate(rest, start)
        if rest == "@P":
            self._note("the shell evaluates the value of ${…@P}")
        if is_keys and (self._facts.has_keys or self._text[begins - 1] != "]"):
            self._substituted.append(Content(unknown="the keys of an array"))
        elif prefix == "!" and name and not is_keys:
            self._note(f"the shell evaluates the name of the variable in ${{!{name}}}")
            self._substituted.append(Content(unknown=f"${{!{name}}}"))
        is_default = bool(self._arithmetic) and operator is not None and operator[0] != ":"
        if is_default:
            self._evaluate(rest, start)
        self._at += 1
        is_number = prefix == "#" or (is_keys and not self._facts.has_keys)
        word.text += "$#" if is_number else "$" if is_pure or is_default else "$()"
        self._refuse_since(
            first, "it stands inside ${…}", "assign the value to a variable first, as in: value={name}; echo ${value#x}"
        )

    def _parameter_word(self, *, has_quotes: bool, is_quoted: bool) -> None:
        inner = Word()
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
                self._backquotes(inner)
            else:
                self._quoted_letter(inner, Place.WORD, "}")

    def _try_arithmetic(self, length: int) -> bool:
        """Read arithmetic that ends with ``))``; if it is none, as in ``((a); b)``, read nothing and return False."""
        at, count, start, outputs = self._at, self._count, self._position(), len(self._outputs)
        self._at += length
        with contextlib.suppress(UnsafePlaceError):
            if self._arithmetic_until("))"):
                return True
        self._at, self._count = at, count
        self._forget(start)
        del self._outputs[outputs:]
        return False

    def _arithmetic_until(self, closing: str) -> bool:
        """Read arithmetic and what closes it; return whether it is closed. Its result is a number."""
        start, depth, inner = self._position(), 0, Word()
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
                    self._backquotes(inner)
                elif letter == closing[0] and not depth:
                    if not self._text.startswith(closing, self._at):
                        self._at += len(closing)
                        return False
                    self._at += len(closing)
                    self._evaluate(inner.text, start)
                    self._forget(start)
                    return True
                else:
                    depth += (letter == opening) - (letter == closing[0])
                    inner.text += letter
                    self._at += 1
            return False
        finally:
            self._arithmetic -= 1

    def _array(self, word: Word) -> None:
        """Read the members of an array."""
        self._at += 1
        word.members = []
        while self._at < len(self._text):
            self._skip(BLANKS_AND_LINES)
            if self._text.startswith(")", self._at):
                break
            before = self._at
            has_subscript = self._text.startswith("[", self._at)
            if has_subscript:
                self._at += 1
                self._arithmetic_until("]")
            member = self._word()
            member.has_expansion |= has_subscript
            word.value += f" {member.text}"
            word.members = [*word.members, member]
            if self._at == before:
                self._at += 1
        self._at += 1
        word.text += "()"
