"""Reader of shell syntax: determines for each placeholder of a template the quoting in which it stands.

The text of a template has a `MARK` for each placeholder. The reader follows the language of bash and of POSIX shells:
quotes, expansions, arithmetic, here-documents, comments, compound commands. It evaluates nothing. Where a value
could not be handed over as data, it raises `UnsafePlaceError`.

Invariants, each with a test that runs the shells:

1. The place of a field is the one in which the shell reads it.
2. A field whose value the shell, or a program that it starts, would read as code is refused, or must be an integer.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

from cloud_tasks.command_template.fields import MARK, Field, Place
from cloud_tasks.command_template.program_tables import DECLARING, FILE_READERS, FILTERS, NUMERIC, WRAPPERS
from cloud_tasks.command_template.programs import INPUT, base_name, examine, plain_word
from cloud_tasks.command_template.shell_words import ALL_POSITIONAL, BLANKS, BLANKS_AND_LINES, NAME, WordReader
from cloud_tasks.command_template.words import UnsafePlaceError, Word

__all__ = ["read_places"]

_REDIRECTION = re.compile(r"&>>|&>|<<<|<<-|<<|<&|<>|>>|>&|>\||<|>")
_CLOSING = {"{": "}", "if": "fi", "while": "done", "until": "done", "for": "done", "select": "done"}
_CONTINUING = ("then", "else", "elif", "do", "!", "time", "coproc")
_MAX_CHOICES = 64
_MAX_DEPTH = 8
_MAX_POSITIONAL = 9
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
        reader = _Reader(text, fields, is_bash=is_bash)
        reader.read()
        if reader.has_jumps:
            # Commands may run after assignments that stand below them.
            _Reader(text, fields, is_bash=is_bash, before=reader).read()


class _Pipeline:
    """A pipeline while it is read."""

    __slots__ = ("expanded", "file_names", "first", "is_piped", "passes_input", "program")

    def __init__(self, first: int, expanded: int) -> None:
        self.first = first
        """Number of fields before it."""
        self.expanded = expanded
        """Number of expansions of variables before it."""
        self.file_names: list[Field] = []
        """Fields in it that are only names of files which it reads."""
        self.is_piped = False
        self.passes_input = False
        """Whether its first command prints its standard input."""
        self.program = ""
        """Program in it that reads code from its standard input."""


class _Command:
    """A simple command, or what follows a compound command, while it is read."""

    __slots__ = (
        "expanded",
        "first",
        "function",
        "input_fields",
        "is_compound",
        "is_loop",
        "program",
        "read_names",
        "words",
    )

    def __init__(self, first: int, expanded: int) -> None:
        self.first = first
        self.expanded = expanded
        self.words: list[Word] = []
        self.input_fields: list[Field] = []
        """Fields in its standard input: here-string, process substitution."""
        self.is_compound = False
        self.is_loop = False
        """Whether it is the head of a loop: a variable and its values."""
        self.program = ""
        """Program, in a compound command any one in it, that reads code from its standard input."""
        self.read_names: list[str] = []
        """Variables that it reads from its standard input."""
        self.function = ""
        """Name of the function that it defines."""

    @property
    def expects_name(self) -> bool:
        """Whether the next word is the name of the command, or an assignment before it."""
        return not self.is_compound and all(word.assigned for word in self.words)

    @property
    def declares(self) -> bool:
        """Whether its arguments may be assignments."""
        return bool(self.words) and self.words[0].is_plain and self.words[0].text in DECLARING


class _HereDocument:
    __slots__ = ("command", "ending", "is_quoted", "pipeline", "strips_tabs")

    def __init__(self, ending: Word, strips_tabs: bool, command: _Command, pipeline: _Pipeline) -> None:
        self.ending = ending.text
        self.is_quoted = ending.is_quoted
        self.strips_tabs = strips_tabs
        self.command = command
        self.pipeline = pipeline


class _Reader(WordReader):
    """Reads commands.

    Args:
        before: Reader of what is executed before the text.
    """

    def __init__(self, text: str, fields: Sequence[Field], *, is_bash: bool, before: _Reader | None = None) -> None:
        super().__init__(text, fields, is_bash=is_bash)
        self._literals: dict[str, list[str]] = {"SHELL": ["bash"], "BASH": ["bash"]}
        """Values of variables that are written in the text."""
        self._depth = 0
        """Number of texts around this one."""
        self.has_jumps = False
        """Whether there are loops or functions."""
        self._pipeline = _Pipeline(0, 0)
        self._program = ""
        """Program that reads code from the standard input of the commands that are being read."""
        self._functions: dict[str, str] = {}
        """Such programs of functions, by name."""
        self._read_names: set[str] = set()
        """Variables that are read from standard input."""
        if before is not None:
            self._assigned += before._assigned
            self._functions |= before._functions
            self._read_names |= before._read_names
        self._inner_program = ""
        """Such a program in code that is an argument of the current command."""
        self._input: list[Field] = []
        """Fields in standard inputs."""
        self._here_documents: list[_HereDocument] = []
        self._is_loop_head = False
        """Whether the next command is the head of a loop: a variable and its values."""

    def read(self) -> None:
        self._commands("")
        if self._read_names.intersection(name for text in self._evaluated for name in self._names_in(text)):
            for field in self._input:
                field.is_integer = True
        self._mark_evaluated()

    # -- commands --------------------------------------------------------------------------------------------------

    def _nested(self, closing: str) -> None:
        """Read commands up to the closing word or parenthesis."""
        if not self._commands(closing):
            raise self._unclosed(closing)

    def _commands(self, closing: str) -> str:
        """Read commands; return what ended them, nothing at the end of the text."""
        outer, self._pipeline = self._pipeline, self._new_pipeline()
        ended = self._list(closing)
        self._pipeline = outer
        return ended

    def _new_pipeline(self) -> _Pipeline:
        return _Pipeline(self._count, len(self._expanded))

    def _new_command(self) -> _Command:
        return _Command(self._count, len(self._expanded))

    def _compound(self, command: _Command, read: Callable[[], None]) -> None:
        """Read a compound command."""
        outer, self._program = self._program, ""
        read()
        command.program, self._program = self._program, outer or self._program
        command.is_compound = True

    def _list(self, closing: str) -> str:
        text, command = self._text, self._new_command()
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
                    self._pipeline = self._new_pipeline()
                command = self._new_command()
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
                command = self._new_command()
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
            self._skip(BLANKS)
            if self._text.startswith(")", self._at):
                self._at += 1
                command.function = command.words[0].text
                command.words.clear()
                return
        self._compound(command, lambda: self._nested(")"))

    def _reserved(self, word: str, command: _Command) -> bool:
        """Read the compound command that a reserved word begins; return whether it is one."""
        if word in _CLOSING:
            self.has_jumps |= _CLOSING[word] == "done"
            self._is_loop_head = word in ("for", "select")
            self._compound(command, lambda: self._nested(_CLOSING[word]))
        elif word == "case":
            self._compound(command, self._case)
        elif word == "[[":
            self._conditional()
            command.is_compound = True
        elif word == "function":
            self._skip(BLANKS)
            command.function = self._word().text
        else:
            return word in _CONTINUING
        return True

    def _case(self) -> None:
        self._skip(BLANKS_AND_LINES)
        self._word(one_word=True)
        self._skip(BLANKS_AND_LINES)
        self._word()
        while True:
            self._skip(BLANKS_AND_LINES)
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
        words: list[Word] = []
        while self._at < len(self._text):
            self._skip(BLANKS_AND_LINES)
            before = self._at
            word = self._word(one_word=True)
            if word.is_plain and word.text == "]]":
                break
            if self._at == before:
                self._at += 1
            else:
                words.append(word)
        for option, word in itertools.pairwise(words):
            if option.is_plain and option.text in ("-v", "-R"):
                for field in word.fields:
                    raise UnsafePlaceError(
                        field, "the shell evaluates it as the name of a variable", "test a name without data"
                    )
        for at, operator in enumerate(words):
            if operator.is_plain and operator.text in _COMPARISONS:
                for operand in words[max(at - 1, 0) : at + 2]:
                    self._evaluated += [operand.text, *operand.names]
                    for field in operand.fields:
                        field.is_integer = True

    def _end(self, command: _Command) -> None:
        """Examine a command at its end."""
        words, pipeline = command.words, self._pipeline
        if command.is_loop and words:
            values = [field for word in words for field in word.fields]
            self._assign(words[0].text, values if len(words) > 1 else self._fields_of([ALL_POSITIONAL]))
            return
        for word in words:
            if word.assigned:
                self._assign(word.assigned, word.fields)
                if not word.fields:
                    self._literals.setdefault(word.assigned, []).append(word.value)
        words = list(itertools.dropwhile(lambda word: word.assigned, words))
        if words:
            self._simple_command(command, words)
        if command.function:
            self.has_jumps = True
            self._functions[command.function] = command.program
            return
        self._input += command.input_fields
        if pipeline.is_piped:
            self._input += self._all[pipeline.first : command.first]
        if not command.program:
            return
        pipeline.program = command.program
        if not pipeline.is_piped or pipeline.passes_input:
            self._program = command.program
        piped = self._all[pipeline.first : command.first] if pipeline.is_piped else ()
        expanded = self._expanded[pipeline.expanded : command.expanded] if pipeline.is_piped else ()
        for field in (*piped, *self._fields_of(expanded), *command.input_fields):
            if field not in pipeline.file_names:
                _refuse_input(field, command.program)

    def _simple_command(self, command: _Command, words: Sequence[Word]) -> None:
        """Examine a command with a name, and set the program that reads code from its standard input."""
        name = base_name(words[0])
        if words[0].is_plain and name == "let":
            self._evaluated += [word.text for word in words[1:]]
        for word in words:
            if self._read_names & word.names:
                word.fields = [*word.fields, INPUT]
        self._arguments(name, words)
        self._inner_program = ""
        try:
            programs = [examine(each, self._code) for each in self._with_literals(words)]
            command.program = next(filter(None, programs), self._inner_program) or self._functions.get(name, "")
        except UnsafePlaceError as error:
            if error.field is not INPUT:
                raise
            command.program = name or "the command"
        if name in ("read", "mapfile", "readarray"):
            command.read_names = [word.text for word in words[1:] if NAME.fullmatch(word.text)] + ["REPLY", "MAPFILE"]
            self._read_names.update(command.read_names)
            for read in command.read_names:
                self._assign(read, command.input_fields)
        if name == "exec" and len(words) == 1:
            command.program = "the shell"
        if name in FILTERS and not self._pipeline.is_piped:
            self._pipeline.passes_input = name not in FILE_READERS or all(
                each.text.startswith("-") for each in words[1:]
            )
        if name in FILE_READERS:
            self._pipeline.file_names += [field for word in words[1:] if word.is_direct for field in word.fields]

    def _arguments(self, name: str, words: Sequence[Word]) -> None:
        """Note assignments in arguments: of variables, and of positional parameters."""
        if name in DECLARING or name in WRAPPERS:
            for word in words[1:]:
                if word.assigns and not word.assigned:
                    if name in DECLARING or name in ("env", "sudo", "doas"):
                        self._assign(word.assigns, word.fields)
                    else:
                        # In a container, a variable may have another meaning.
                        self._assigned.append((word.assigns, word.fields))
        if name == "printf" and len(words) > 2 and words[1].text == "-v":
            self._assign(words[2].text, [field for word in words[3:] for field in word.fields])
        if name in self._functions:
            self._positional(words)
        elif name == "set":
            self._positional([words[0], *(word for word in words[1:] if not word.text.startswith(("-", "+")))])

    def _positional(self, words: Sequence[Word]) -> None:
        """Note the values of ``$0`` and the positional parameters."""
        for number, word in enumerate(words):
            # A list is several words, as an expansion without quotes may be.
            is_wide = not word.is_quoted and (word.text == MARK or word.text.startswith("$"))
            last = _MAX_POSITIONAL if is_wide else number
            names = [ALL_POSITIONAL, *(f"${each}" for each in range(number, last + 1))]
            self._assigned += [(name, word.fields) for name in names if number or name != ALL_POSITIONAL]

    def _with_literals(self, words: Sequence[Word]) -> Iterator[list[Word]]:
        """Yield the words with the values of variables that are written in the text."""
        choices: list[list[list[Word]]] = []
        for word in words:
            name = next(iter(word.names)) if len(word.names) == 1 else ""
            is_variable = word.text in ("$", f"${name}")
            values = self._literals.get(name, ()) if is_variable else ()
            choices.append([[word], *(list(map(plain_word, value.split())) for value in dict.fromkeys(values))])
        for chosen in itertools.islice(itertools.product(*choices), _MAX_CHOICES):
            if found := list(itertools.chain.from_iterable(chosen)):
                yield found

    def _code(self, text: str, arguments: Sequence[Word]) -> None:
        """Read code within the command, in which variables and positional parameters may have fields."""
        if self._depth == _MAX_DEPTH:
            return
        inner = _Reader(text, (), is_bash=self._is_bash, before=self)
        inner._depth = self._depth + 1
        inner._positional(arguments)
        try:
            inner.read()
        except UnsafePlaceError as error:
            # Without a field, the code is malformed.
            if error.field.name:
                raise
        self._evaluated += inner._evaluated
        self._inner_program = self._inner_program or inner._program

    # -- redirections and here-documents ----------------------------------------------------------------------------

    def _redirection(self, command: _Command) -> None:
        match = _REDIRECTION.match(self._text, self._at)
        if match is None:
            self._at += 1
            return
        self._at = match.end()
        self._skip(BLANKS)
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
            if (shown == document.ending and not is_continued) or line_end < 0:
                break
            is_continued = not document.is_quoted and (len(line) - len(line.rstrip("\\"))) % 2 == 1
            end = following
        first, expanded = self._count, len(self._expanded)
        # Without its delimiter a here-document extends to the end of the text.
        limit = end if shown == document.ending else following
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
            for field in (*self._since(first), *self._fields_of(self._expanded[expanded:])):
                _refuse_input(field, program)
        self._input += self._since(first)
        self._assigned += [(read, self._since(first)) for read in document.command.read_names]


def _is_descriptor(word: Word) -> bool:
    """Return whether a word before a redirection names the variable for its descriptor: ``{name}>file``."""
    return word.text.startswith("{") and word.text.endswith("}")


def _refuse_input(field: Field, program: str) -> None:
    """Refuse a field in the input of a program that executes it; a number for some."""
    remedy = "put the code into a file, and give it the value as an argument"
    error = UnsafePlaceError(field, f"{program} executes its standard input", remedy)
    if program not in NUMERIC:
        raise error
    field.unsafe = error
