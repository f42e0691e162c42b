"""Data flow of shell commands: which values reach which variable, program or standard input.

Invariant, with a test that runs the shells: a field whose value the shell, or a program that it starts, would read as
code is refused, or must be an integer.
"""

from __future__ import annotations

import itertools
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence

from cloud_tasks.command_template.commands import Command, Pipeline
from cloud_tasks.command_template.fields import MARK, Field
from cloud_tasks.command_template.program_tables import (
    DECLARING,
    FILE_READERS,
    FILTERS,
    INTEGER_VARIABLES,
    NUMERIC,
    SHELL,
    STANDARD_INPUT,
    WRAPPERS,
)
from cloud_tasks.command_template.programs import INPUT, base_name, examine, plain_word
from cloud_tasks.command_template.shell_words import ALL_POSITIONAL, NAME, WordReader
from cloud_tasks.command_template.words import UnsafePlaceError, Word

__all__ = ["CommandExaminer", "refuse_input"]

_MAX_CHOICES = 64
_MAX_DEPTH = 8
_MAX_POSITIONAL = 9


class CommandExaminer(WordReader):
    """Follows the values of fields through commands that have been read.

    Args:
        before: Reader of what is executed before the text.
    """

    def __init__(
        self, text: str, fields: Sequence[Field], *, is_bash: bool, before: CommandExaminer | None = None
    ) -> None:
        super().__init__(text, fields, is_bash=is_bash)
        self._evaluated += INTEGER_VARIABLES
        self._references: set[str] = set()
        """Variables whose values are names of other variables."""
        self._literals: dict[str, list[str]] = {"SHELL": ["bash"], "BASH": ["bash"]}
        """Values of variables that are written in the text."""
        self._arrays: dict[str, list[Sequence[Word]]] = {}
        """Members of arrays, and positional parameters, for each assignment."""
        self._depth = 0
        """Number of texts around this one."""
        self.has_jumps = False
        """Whether there are loops or functions."""
        self._pipeline = Pipeline(self._position())
        self._program = ""
        """Program that reads code from the standard input of the commands that are being read."""
        self._read_names: set[str] = set()
        """Variables that are read from standard input."""
        self._outer: Sequence[Field] = ()
        """Fields of the text around this one, or of all of this one if it is read again."""
        if before is not None:
            self._outer = [*before._outer, *before._all]
            self._assigned += before._assigned
            self._assigned_texts += before._assigned_texts
            self._evaluated = list(dict.fromkeys(before._evaluated))
            self._references |= before._references
            self._arrays |= before._arrays
            self._functions |= before._functions
            self._read_names |= before._read_names
        self._inner_program = ""
        """Such a program in code that is an argument of the current command."""
        self._input: list[Field] = []
        """Fields in standard inputs."""

    def read(self) -> None:
        """Read the text to its end, and raise `UnsafePlaceError` for a value that would not be data."""
        self._commands("")
        if self._read_names & self._evaluated_names():
            for field in self._input:
                field.is_integer = True
        self._mark_evaluated()
        for field in (
            *self._fields_of(self._references),
            *(self._input if self._read_names & self._references else ()),
        ):
            raise UnsafePlaceError(
                field, "the shell evaluates it as the name of a variable", "use a variable that is not declared with -n"
            )

    def _contents(self) -> Sequence[Field]:
        return [field for field in (*self._outer, *self._since(0)) if not field.is_file]

    @abstractmethod
    def _commands(self, closing: str) -> str:
        """Read commands."""

    def _examine(self, command: Command) -> None:
        """Follow the values in a command, at its end."""
        words, pipeline = command.words, self._pipeline
        if command.is_loop and words:
            values = [field for word in words for field in word.fields]
            texts = " ".join(word.text for word in words[2:])
            self._assign(words[0].text, values if len(words) > 1 else self._fields_of([ALL_POSITIONAL]), texts)
            return
        for word in words:
            if word.assigned:
                self._assign(word.assigned, word.fields, " ".join((word.value, *word.names)))
                if word.members:
                    members = self._arrays.setdefault(word.assigned, [])
                    is_appended = members and word.text.startswith(f"{word.assigned}+")
                    members.append([*(members[-1] if is_appended else ()), *word.members])
                if not word.fields:
                    self._literals.setdefault(word.assigned, []).append(word.value)
        words = list(itertools.dropwhile(lambda word: word.assigned, words))
        if words:
            self._simple_command(command, words)
        if command.function:
            self.has_jumps = True
            self._functions[command.function] = command.program
            return
        if command.is_coprocess and command.program and self._all:
            refuse_input(self._all[0], command.program)
        self._input += command.input_fields
        piped = self._printed(pipeline.start, command.start) if pipeline.is_piped else ()
        self._input += piped
        if not command.program:
            return
        pipeline.program = command.program
        if not pipeline.is_piped or pipeline.passes_input:
            self._program = command.program
        processes = [field for word in words if word.has_process for field in word.fields]
        for field in (*piped, *command.input_fields, *processes):
            if field not in pipeline.file_names:
                refuse_input(field, command.program)
        self._input_code(command, command.input_code)

    def _input_code(self, command: Command, text: str) -> None:
        """Read what a shell reads from standard input, with the command's other words as positional parameters."""
        if text and MARK not in text and SHELL.name.fullmatch(command.program):
            shell = next((at for at, word in enumerate(command.words) if base_name(word) == command.program), 0)
            arguments = [
                word
                for word in command.words[shell:]
                if not word.text.startswith("-") and not STANDARD_INPUT.fullmatch(word.text)
            ]
            self._code(text, arguments)

    def _simple_command(self, command: Command, words: Sequence[Word]) -> None:
        """Examine a command with a name, and set the program that reads code from its standard input."""
        name = base_name(words[0])
        if name in self._functions or (not name and self._functions):
            self._calls += 1
        if words[0].is_plain and name == "let":
            self._evaluated += [word.text for word in words[1:]]
        fields = self._outer or self._all
        if name == "shopt" and fields and any(word.text == "expand_aliases" for word in words):
            raise UnsafePlaceError(fields[0], "an alias may execute it", "use functions, without aliases")
        for word in words:
            if self._read_names & word.names:
                word.fields = [*word.fields, INPUT]
        self._arguments(name, words)
        self._inner_program = ""
        try:
            self._check_name(words[0])
            programs = [examine(each, self._code) for each in self._with_literals(words)]
            command.program = (
                command.program or next(filter(None, programs), self._inner_program) or self._functions.get(name, "")
            )
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
        if name in ("mapfile", "readarray") and any(re.match(r"-[A-Za-z]*C", word.text) for word in words):
            command.program = f"{name} -C"
        if words[0].text.startswith("$()") and not name:
            command.program = command.program or "the command"
        if name == "getopts":
            values = [*self._fields_of([ALL_POSITIONAL]), *(field for word in words for field in word.fields)]
            for assigned in ("OPTARG", *(word.text for word in words[2:3])):
                self._assign(assigned, values)
        if name in FILTERS and not self._pipeline.is_piped:
            self._pipeline.passes_input = name not in FILE_READERS or all(
                each.text.startswith("-") for each in words[1:]
            )
        if name in FILE_READERS:
            self._pipeline.file_names += [field for word in words[1:] if word.is_direct for field in word.fields]

    def _check_name(self, word: Word) -> None:
        """Refuse a value that the shell splits into the name of a program and its arguments."""
        if word.is_quoted or word.is_direct or not word.text.startswith("$"):
            return
        texts = [text.strip() for name, text in self._assigned_texts if name in word.names]
        if "()" in word.text or not texts or any(not text or text.startswith((MARK, "$")) for text in texts):
            for field in word.fields:
                raise UnsafePlaceError(
                    field, "the shell splits it into a program and arguments", 'quote it, as in: "$program"'
                )

    def _arguments(self, name: str, words: Sequence[Word]) -> None:
        """Note assignments in arguments: of variables, and of positional parameters."""
        if name in DECLARING:
            self._attributes(words[1:])
        if name in DECLARING or name in WRAPPERS:
            for word in words[1:]:
                if word.assigns and not word.assigned:
                    if name in DECLARING or name in ("env", "sudo", "doas"):
                        self._assign(word.assigns, word.fields, word.text.partition("=")[2])
                    else:
                        # In a container, a variable may have another meaning.
                        self._assigned.append((word.assigns, word.fields))
        if name == "printf" and len(words) > 2 and words[1].text == "-v":
            values = [field for word in words[3:] for field in word.fields]
            self._assign(words[2].text, values, " ".join(word.text for word in words[3:]))
        if name in self._functions or (not name and self._functions):
            self._positional(words)
        elif name == "set":
            self._positional([words[0], *(word for word in words[1:] if not word.text.startswith(("-", "+")))])

    def _attributes(self, words: Sequence[Word]) -> None:
        """Note the variables that a command declares as integers or as references."""
        options = {letter for word in words if word.text.startswith("-") for letter in word.text}
        # An option may be the value of a variable.
        options |= {"i" for word in words if word.text.startswith("$")}
        for word in words:
            if (name := NAME.match(word.text)) is not None:
                self._evaluated += [word.text] if "i" in options else []
                self._references |= {name[0]} if "n" in options else set()

    def _positional(self, words: Sequence[Word]) -> None:
        """Note the values of ``$0`` and the positional parameters."""
        self._arrays[ALL_POSITIONAL] = [*self._arrays.get(ALL_POSITIONAL, ())[:_MAX_POSITIONAL], list(words[1:])]
        for number, word in enumerate(words):
            # A list is several words, as an expansion without quotes may be.
            is_wide = not word.is_quoted and (word.text == MARK or word.text.startswith("$"))
            last = _MAX_POSITIONAL if is_wide else number
            names = [ALL_POSITIONAL, *(f"${each}" for each in range(number, last + 1))]
            for name in names:
                if number or name != ALL_POSITIONAL:
                    self._assign(name, word.fields, word.text)
                if name != ALL_POSITIONAL and not word.fields:
                    self._literals.setdefault(name, []).append(word.text)

    def _with_literals(self, words: Sequence[Word]) -> Iterator[list[Word]]:
        """Yield the words with the values of variables that are written in the text."""
        choices: list[list[list[Word]]] = []
        for word in words:
            name = next(iter(word.names)) if len(word.names) == 1 else ""
            is_variable = word.text in ("$", f"${name}", name)
            values = dict.fromkeys(self._literals.get(name, ()) if is_variable else ())
            split = [[value] if word.is_quoted else value.split() for value in values]
            choices.append([[word], *(list(map(plain_word, each)) for each in split)])
            choices[-1] += [list(members) for members in self._arrays.get(name, ()) if is_variable]
        for chosen in itertools.islice(itertools.product(*choices), _MAX_CHOICES):
            if found := list(itertools.chain.from_iterable(chosen)):
                yield found

    def _code(self, text: str, arguments: Sequence[Word]) -> None:
        """Read code within the command, in which variables and positional parameters may have fields."""
        if self._depth == _MAX_DEPTH:
            return
        before: CommandExaminer = self
        # Commands may run after assignments that stand below them.
        for _ in range(2):
            inner = type(self)(text, (), is_bash=self._is_bash, before=before)
            inner._depth = self._depth + 1
            inner._positional(arguments)
            try:
                inner.read()
            except UnsafePlaceError as error:
                # Without a field, the code is malformed.
                if error.field.name:
                    raise
            self._evaluated = inner._evaluated
            self._inner_program = self._inner_program or inner._program
            if not inner.has_jumps:
                break
            before = inner


def refuse_input(field: Field, program: str) -> None:
    """Refuse a field in the input of a program that executes it; a number for some."""
    remedy = "put the code into a file, and give it the value as an argument"
    error = UnsafePlaceError(field, f"{program} executes its standard input", remedy)
    if program not in NUMERIC:
        raise error
    field.unsafe = error
