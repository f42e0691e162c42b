"""Reader of shell syntax: determines for each placeholder of a template the quoting in which it stands.

The text of a template has a `MARK` for each placeholder. The reader follows the language of bash and of POSIX shells:
quotes, expansions, arithmetic, here-documents, comments, compound commands. It evaluates nothing. Where a value
could not be handed over as data, it raises `UnsafePlaceError`.

Invariants, each with a test that runs the shells:

1. The place of a field is the one in which the shell reads it.
2. A field whose value the shell, or a program that it starts, would read as code is refused, or must be an integer.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Sequence

from cloud_tasks.command_template.fields import MARK, Field, Place
from cloud_tasks.command_template.program_tables import DECLARING, FILE_READERS
from cloud_tasks.command_template.programs import base_name, examine
from cloud_tasks.command_template.words import UnsafePlaceError, Word

__all__ = ["read_places"]

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(?:\[.*\])?\+?", re.ASCII | re.DOTALL)
_REDIRECTION = re.compile(r"&>>|&>|<<<|<<-|<<|<&|<>|>>|>&|>\||<|>")
_PARAMETER = re.compile(r"\$\{([!#]?)(\w+|[@*#?$!-])?(\[[^]\0]*\])?(:?[+=?-])?(:)?", re.ASCII)
_BLANKS = re.compile(r"(?:[ \t]|\\\n)*")
_BLANKS_AND_LINES = re.compile(r"(?:[ \t\n]|\\\n|#[^\n]*)*")
_END_OF_WORD = " \t\n;&|()<>"
_CLOSING = {"{": "}", "if": "fi", "while": "done", "until": "done", "for": "done", "select": "done"}
_CONTINUING = ("then", "else", "elif", "do", "!", "time", "coproc")
_COMPARISONS = ("-eq", "-ne", "-lt", "-le", "-gt", "-ge")


def read_places(text: str, fields: Sequence[Field], *, is_bash: bool) -> None:
    """Set the place of each field.

    Args:
        text: Template with a `MARK` for each of the fields.
        is_bash: Whether bash runs it; else any POSIX shell.

    Raises:
        UnsafePlaceError: A value would not be data where its placeholder stands.
    """
    if fields:
        _Reader(text, fields, is_bash=is_bash).read()


class _Pipeline:
    """A pipeline while it is read."""

    __slots__ = ("file_names", "first", "is_piped", "program")

    def __init__(self, first: int) -> None:
        self.first = first
        """Number of fields before it."""
        self.file_names: list[Field] = []
        """Fields in it that are only names of files which it reads."""
        self.is_piped = False
        self.program = ""
        """Program in it that reads code from its standard input."""


class _Command:
    """A simple command, or what follows a compound command, while it is read."""

    __slots__ = ("first", "input_fields", "is_compound", "is_loop", "program", "words")

    def __init__(self, first: int) -> None:
        self.first = first
        self.words: list[Word] = []
        self.input_fields: list[Field] = []
        """Fields in its standard input: here-string, process substitution."""
        self.is_compound = False
        self.is_loop = False
        """Whether it is the head of a loop: a variable and its values."""
        self.program = ""

    @property
    def expects_name(self) -> bool:
        """Whether the next word is the name of the command, or an assignment before it."""
        return not self.is_compound and all(word.assigned for word in self.words)

    @property
    def declares(self) -> bool:
        """Whether its arguments may be assignments."""
        return bool(self.words) and self.words[0].is_plain and self.words[0].text in DECLARING


class _HereDocument:
    __slots__ = ("command", "delimiter", "is_quoted", "pipeline", "strips_tabs")

    def __init__(self, delimiter: Word, strips_tabs: bool, command: _Command, pipeline: _Pipeline) -> None:
        self.delimiter = delimiter.text
        self.is_quoted = delimiter.is_quoted
        self.strips_tabs = strips_tabs
        self.command = command
        self.pipeline = pipeline


class _Reader:
    def __init__(self, text: str, fields: Sequence[Field], *, is_bash: bool) -> None:
        self._text = text
        self._all = fields
        self._is_bash = is_bash
        self._at = 0
        self._count = 0
        """Number of fields that were read."""
        self._arithmetic = 0
        self._pipeline = _Pipeline(0)
        self._here_documents: list[_HereDocument] = []
        self._assigned: list[tuple[str, Sequence[Field]]] = []
        self._evaluated: list[str] = []
        """Texts that the shell evaluates as arithmetic, in which names are variables."""

    def read(self) -> None:
        self._commands("")
        evaluated = {name for text in self._evaluated for name in _NAME.findall(text)}
        for name, fields in self._assigned:
            if name in evaluated:
                for field in fields:
                    field.is_integer = True

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

    def _refuse_since(self, first: int, problem: str, remedy: str) -> None:
        if self._count > first:
            raise UnsafePlaceError(self._all[first], problem, remedy)

    # -- commands --------------------------------------------------------------------------------------------------

    def _nested(self, closing: str) -> None:
        """Read commands up to the closing word or parenthesis."""
        if not self._commands(closing):
            raise self._unclosed(closing)

    def _unclosed(self, closing: str) -> UnsafePlaceError:
        return UnsafePlaceError(self._all[0], f"the command has an opening without the closing {closing}", "close it")

    def _commands(self, closing: str) -> str:
        """Read commands; return what ended them, nothing at the end of the text."""
        outer, self._pipeline = self._pipeline, _Pipeline(self._count)
        try:
            return self._list(closing)
        finally:
            self._pipeline = outer

    def _list(self, closing: str) -> str:
        text, command = self._text, _Command(self._count)
        command.is_loop = closing == "done" and self._is_loop_head
        self._is_loop_head = False
        while self._at < len(text):
            letter = text[self._at]
            if letter in " \t":
                self._at += 1
            elif text.startswith("\\\n", self._at):
                self._at += 2
            elif letter == "#":
                self._comment()
            elif letter in "\n;&|" and not (self._is_bash and text.startswith("&>", self._at)):
                operator = self._operator()
                self._end(command)
                if operator in ("|", "|&"):
                    self._pipeline.is_piped = True
                else:
                    self._pipeline = _Pipeline(self._count)
                command = _Command(self._count)
                if operator == "\n":
                    self._read_here_documents()
                elif closing == "esac" and operator in (";;", ";&", ";;&"):
                    return operator
            elif letter == "(":
                self._parenthesis(command)
            elif letter == ")":
                self._end(command)
                self._at += 1
                if closing == ")":
                    return closing
                command = _Command(self._count)
            elif letter in "<>&" and not text.startswith("(", self._at + 1):
                self._redirection(command)
            else:
                start = self._at
                word = self._word(may_assign=command.expects_name or command.declares)
                self._at = max(self._at, start + 1)
                if text.startswith(("<", ">"), self._at) and (word.text.isdigit() or _is_descriptor(word)):
                    continue
                is_reserved = command.expects_name and not command.words and word.is_plain
                if is_reserved and closing and word.text == closing:
                    return closing
                if is_reserved and self._reserved(word.text, command):
                    continue
                command.words.append(word)
        self._end(command)
        return ""

    _is_loop_head = False

    def _operator(self) -> str:
        for operator in (";;&", ";;", ";&", "&&", "||", "|&", "\n", ";", "&", "|"):
            if self._text.startswith(operator, self._at):
                self._at += len(operator)
                return operator
        raise AssertionError("no operator")

    def _parenthesis(self, command: _Command) -> None:
        if command.expects_name and self._text.startswith("((", self._at) and self._try_arithmetic(2):
            command.is_compound = True
            return
        self._at += 1
        if command.words:
            # The definition of a function: its body is a command.
            self._skip(_BLANKS)
            if self._text.startswith(")", self._at):
                self._at += 1
                command.words.clear()
                return
        self._nested(")")
        command.is_compound = True

    def _reserved(self, word: str, command: _Command) -> bool:
        """Read the compound command that a reserved word begins; return whether it is one."""
        if word in _CLOSING:
            self._is_loop_head = word in ("for", "select")
            self._nested(_CLOSING[word])
            command.is_compound = True
        elif word == "case":
            self._case()
            command.is_compound = True
        elif word == "[[":
            self._conditional()
            command.is_compound = True
        elif word == "function":
            self._skip(_BLANKS)
            self._word()
        else:
            return word in _CONTINUING
        return True

    def _case(self) -> None:
        self._skip(_BLANKS_AND_LINES)
        self._word(one_word=True)
        self._skip(_BLANKS_AND_LINES)
        self._word()
        while True:
            self._skip(_BLANKS_AND_LINES)
            if self._text.startswith("(", self._at):
                self._at += 1
            start = self._at
            while self._at < len(self._text) and not self._text.startswith(")", self._at):
                before = self._at
                word = self._word(one_word=True)
                if before == start and word.is_plain and word.text == "esac":
                    return
                if self._at == before:
                    self._at += 1
            self._at += 1
            ended = self._commands("esac")
            if ended == "esac":
                return
            if not ended:
                raise self._unclosed("esac")

    def _conditional(self) -> None:
        """Read ``[[ … ]]`` after its beginning."""
        first, words = self._count, list[Word]()
        while self._at < len(self._text):
            self._skip(_BLANKS_AND_LINES)
            before = self._at
            word = self._word(one_word=True)
            if word.is_plain and word.text == "]]":
                break
            if self._at == before:
                self._at += 1
            else:
                words.append(word)
        operators = {word.text for word in words if word.is_plain}
        if operators & {"-v", "-R"}:
            self._refuse_since(first, "the shell evaluates it as the name of a variable", "test a name without data")
        if operators & set(_COMPARISONS):
            self._evaluated += [word.text for word in words]
            for field in self._since(first):
                field.is_integer = True

    def _end(self, command: _Command) -> None:
        """Examine a command at its end."""
        words, pipeline = command.words, self._pipeline
        if command.is_loop and words:
            self._assigned.append((words[0].text, self._since(command.first)))
            return
        for word in words:
            if word.assigned:
                self._assigned.append((word.assigned, word.fields))
        words = list(itertools.dropwhile(lambda word: word.assigned, words))
        if not words:
            return
        if words[0].is_plain and words[0].text == "let":
            self._evaluated += [word.text for word in words[1:]]
        command.program = examine(words)
        if base_name(words[0]) in FILE_READERS:
            pipeline.file_names += [field for word in words[1:] if word.is_direct for field in word.fields]
        if not command.program:
            return
        pipeline.program = command.program
        piped = self._all[pipeline.first : command.first] if pipeline.is_piped else ()
        for field in (*piped, *command.input_fields):
            if field not in pipeline.file_names:
                raise UnsafePlaceError(field, *_code_in_input(command.program))

    # -- redirections and here-documents ----------------------------------------------------------------------------

    def _redirection(self, command: _Command) -> None:
        match = _REDIRECTION.match(self._text, self._at)
        if match is None:
            self._at += 1
            return
        self._at = match.end()
        self._skip(_BLANKS)
        first = self._count
        word = self._word(one_word=True)
        if match[0] in ("<<", "<<-"):
            self._refuse_since(first, "it is the delimiter of a here-document", "use a delimiter without data")
            self._here_documents.append(_HereDocument(word, match[0] == "<<-", command, self._pipeline))
        elif match[0] == "<<<" or (match[0] == "<" and word.has_process):
            command.input_fields += word.fields

    def _read_here_documents(self) -> None:
        pending, self._here_documents = self._here_documents, []
        for document in pending:
            self._here_document(document)

    def _here_document(self, document: _HereDocument) -> None:
        text, start, is_continued = self._text, self._at, False
        end = following = start
        while True:
            line_end = text.find("\n", end)
            line = text[end:] if line_end < 0 else text[end:line_end]
            following = len(text) if line_end < 0 else line_end + 1
            shown = line.lstrip("\t") if document.strips_tabs else line
            if (shown == document.delimiter and not is_continued) or line_end < 0:
                break
            is_continued = not document.is_quoted and (len(line) - len(line.rstrip("\\"))) % 2 == 1
            end = following
        first = self._count
        # Without its delimiter a here-document extends to the end of the text.
        limit = end if shown == document.delimiter else following
        while self._at < limit:
            letter = text[self._at]
            if letter == MARK:
                self._record(Place.HERE)
            elif document.is_quoted:
                self._at += 1
            elif letter == "\\":
                self._at += 2
            elif letter == "`":
                self._backquotes()
            elif letter == "$":
                self._dollar(Word(), is_quoted=True)
            else:
                self._at += 1
        self._at = max(self._at, following)
        if document.is_quoted:
            self._refuse_since(
                first, "the shell expands nothing in a here-document with a quoted delimiter", "remove the quotes"
            )
        if program := document.command.program or document.pipeline.program:
            self._refuse_since(first, *_code_in_input(program))

    # -- words ------------------------------------------------------------------------------------------------------

    def _word(self, *, one_word: bool = False, may_assign: bool = False) -> Word:
        """Read a word, which may be empty."""
        text, word, first = self._text, Word(), self._count
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
                self._backquotes()
                word.text += "$()"
            elif letter in "<>" and text.startswith("(", self._at + 1):
                self._process_substitution(word)
            elif letter in _END_OF_WORD:
                break
            elif letter == "[" and may_assign and not word.is_quoted and _NAME.fullmatch(word.text):
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
        word.fields = self._since(first)
        return word

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
                self._backquotes()
                word.text += "$()"
            else:
                self._quoted_letter(word, Place.DOUBLE, '"')
        self._at += 1

    def _backquotes(self) -> None:
        first = self._count
        self._at += 1
        inner = Word()
        while not self._text.startswith("`", self._at):
            if self._text.startswith("\\", self._at):
                self._at += 2
            else:
                self._quoted_letter(inner, Place.WORD, "`")
        self._at += 1
        self._refuse_since(first, "it stands inside backquotes", "use $(…) instead")

    def _process_substitution(self, word: Word) -> None:
        first = self._count
        self._at += 2
        self._nested(")")
        word.has_process = word.has_process or self._count > first
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
            word.text += "$"
            self._at += 1

    def _parameter(self, *, is_quoted: bool) -> None:
        first, match = self._count, _PARAMETER.match(self._text, self._at)
        assert match is not None
        # Within double quotes, apostrophes in a default value are plain characters, but not for bash.
        has_quotes = self._is_bash or not (is_quoted and match[4])
        self._evaluated.append(match[3] or "")
        start = self._at = match.end()
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
                self._backquotes()
            else:
                self._quoted_letter(inner, Place.WORD, "}")
        rest = self._text[start : self._at]
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
        state = (self._at, self._count, len(self._evaluated))
        self._at += length
        with contextlib.suppress(UnsafePlaceError):
            if self._arithmetic_until("))"):
                return True
        self._at, self._count = state[:2]
        del self._evaluated[state[2] :]
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
            self._skip(_BLANKS_AND_LINES)
            if self._text.startswith(")", self._at):
                break
            before = self._at
            member = self._word()
            if member.text.startswith("["):
                for field in member.fields:
                    field.is_integer = True
                self._evaluated.append(member.text)
            if self._at == before:
                self._at += 1
        self._at += 1
        word.text += "()"


def _is_descriptor(word: Word) -> bool:
    """Return whether a word before a redirection names the variable for its descriptor: ``{name}>file``."""
    return word.text.startswith("{") and word.text.endswith("}")


def _code_in_input(program: str) -> tuple[str, str]:
    return f"{program} executes its standard input", "put the code into a file, and give it the value as an argument"
