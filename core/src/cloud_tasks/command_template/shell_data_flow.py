"""Data flow of shell commands: which values reach which variable, program or standard input.

Invariant, with a test that runs the shells: a field whose value the shell, or a program that it starts, would read as
code is refused, or must be an integer; where the flow is not followed, all values must be plain text.
"""

from __future__ import annotations

import itertools
import re
import string
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

from cloud_tasks.command_template import program_tables as tables
from cloud_tasks.command_template.commands import Command, Pipeline
from cloud_tasks.command_template.fields import MARK, Field
from cloud_tasks.command_template.programs import Findings, base_name, examine, is_shell, refuse_input
from cloud_tasks.command_template.shell_words import ALL_POSITIONAL, NAME, WordReader
from cloud_tasks.command_template.words import Content, Facts, UnsafePlaceError, Word, content_of

__all__ = ["CommandExaminer", "file_name"]

_MAX_DEPTH = 8
_MAX_REPLACED = 3
_MAX_VARIANTS = 64
_READING = ("read", "mapfile", "readarray")
_ODD = re.compile(r"[*?\[\]{}\\]|^/proc/")
"""Characters in the name of a program that may stand for another name."""


class CommandExaminer(WordReader):
    """Follows the values of fields through commands that have been read."""

    def __init__(self, text: str, fields: Sequence[Field], facts: Facts, *, is_bash: bool, depth: int = 0) -> None:
        super().__init__(text, fields, facts, is_bash=is_bash)
        self._depth = depth
        """Number of texts around this one."""
        self._pipeline = Pipeline(0)
        self._findings = Findings(self._code, self._note, self._script)

    @abstractmethod
    def _commands(self, closing: str) -> str:
        """Read commands."""

    def _examine(self, command: Command) -> None:
        """Follow the values in a command, at its end."""
        if command.is_loop and command.words:
            self._loop(command.words)
            return
        for word in command.words:
            if word.assigned:
                self._assign(word.assigned, word.content, word.value, word.names)
                if "[]" in word.text:
                    self._facts.assign_list(word.assigned, [Word(unknown="a member of an array")])
                if word.members is not None:
                    is_appended = word.text.startswith(f"{word.assigned}+")
                    self._facts.assign_list(word.assigned, word.members, is_appended=is_appended)
        words = list(itertools.dropwhile(lambda word: word.assigned, command.words))
        piped = self._outputs[self._pipeline.start : command.start] if self._pipeline.is_piped else []
        if words:
            for variant in itertools.islice(self._variants(words), _MAX_VARIANTS):
                self._simple_command(command, variant)
            self._outputs.append(self._printed(command, words))
        elif command.has_input and not command.is_compound:
            self._outputs.append(Content(unknown="the content of a file", is_file=True))
        if command.program:
            self._pipeline.program = command.program
            self._check_input(command, content_of((*piped, command.input)))

    def _loop(self, words: Sequence[Word]) -> None:
        """Note the values of the variable of a loop."""
        for word in words[2:]:
            is_pattern = not word.is_quoted and re.search(r"[*?]", word.text)
            content = Content(word.fields, word.unknown or ("the name of a file" if is_pattern else ""))
            self._assign(words[0].text, content, word.text, word.names)
        if len(words) == 1:
            self._assign(words[0].text, content_of(self._facts.contents([ALL_POSITIONAL])))

    def _assign(self, name: str, content: Content, text: str = "$()", names: Iterable[str] = ()) -> None:
        """Note that a variable gets a text, as it is written."""
        problem = f"programs read code from the variable {name}"
        if name in tables.CODE_VARIABLES or name.startswith("GIT_CONFIG_VALUE_"):
            for field in content.fields:
                raise UnsafePlaceError(field, problem, "use a variable of another name, or a fixed value")
            if content.unknown or re.search(r"[$`\\<]", text):
                self._note(f"{problem}, which gets {content.unknown or 'computed text'}")
            self._script(Word(text))
        if name == "IFS":
            is_known = not (content.fields or content.unknown or "$" in text)
            self._facts.separators |= set(re.sub(r"\\[ntr]", "", text) if is_known else string.punctuation)
        self._facts.assign(name, content, text, names=names)

    def _printed(self, command: Command, words: Sequence[Word]) -> Content:
        """Return what a command prints."""
        name = base_name(words[0])
        if name in tables.PRINTERS:
            return content_of((*(word.content for word in words[1:]), command.input))
        if name in tables.FILE_READERS:
            processes = [word.content for word in words[1:] if word.has_process]
            return content_of((*processes, command.input, Content((), f"the output of {name}", is_file=True)))
        return Content(unknown=f"the output of {name or 'a command'}")

    # -- standard input ---------------------------------------------------------------------------------------------

    def _check_input(self, command: Command, content: Content) -> None:
        """Refuse values in the input of a program that reads code, and note other input that may have some."""
        program = command.program
        refuse_input(content.fields, program)
        if is_shell(program) or not (self._pipeline.is_piped or command.has_input):
            self._note(f"{program} executes its standard input")
        elif content.unknown and not content.is_file:
            self._note(f"{program} executes {content.unknown}")

    def _code(self, text: str, arguments: Sequence[Word] | None) -> None:
        """Read code within the command, in which variables and positional parameters may have fields."""
        if self._depth == _MAX_DEPTH or MARK in text:
            return
        inner = type(self)(text, (), self._facts, is_bash=self._is_bash, depth=self._depth + 1)
        inner._outputs = self._outputs
        if arguments is not None:
            inner._positional(arguments[1:])
        try:
            inner._commands("")
        except UnsafePlaceError as error:
            # Without a field, the code is malformed.
            if error.field.name:
                raise

    # -- names of programs ------------------------------------------------------------------------------------------

    def _variants(self, words: Sequence[Word], depth: int = 0) -> Iterator[Sequence[Word]]:
        """Yield the words of a command, and those with a variable in the place of a program replaced by its values."""
        yield words
        name = base_name(words[0])
        if name in ("command", "builtin"):
            named = list(itertools.dropwhile(lambda word: word.text.startswith("-"), words[1:]))
            yield from self._variants(named, depth + 1) if named else ()
        for at, word in enumerate(words[: len(words) if not name or name in tables.WRAPPERS else 1]):
            before = words[at - 1].text if at else ""
            is_place = (
                not at
                or before in tables.FIND_OPTIONS
                or all(tables.WRAPPED.fullmatch(each.text) for each in words[1:at])
            )
            is_place = is_place and (name != "find" or not at or before in tables.FIND_OPTIONS)
            if not (word.is_computed or (is_place and _is_odd(word))):
                continue
            lists = self._values(word)
            for each in lists or ():
                if depth < _MAX_REPLACED:
                    yield from self._variants([*words[:at], *each, *words[at + 1 :]], depth + 1)
            if lists is None and is_place:
                self._check_name(word, may_split=at == 1 and name in tables.NEEDS_OPERAND)
            elif lists is None and word.splits and (word.fields or word.unknown):
                self._note(f"{name or 'a command'} may start {word.unknown or 'text with values'}")

    def _values(self, word: Word) -> Sequence[Sequence[Word]] | None:
        """Return the words that a variable may stand for, none for other words; None if they are not known."""
        if _is_odd(word) or word.text == MARK:
            return None
        if word.text != "$" or len(word.names) != 1:
            is_whole = not word.splits or not (word.fields or word.unknown)
            return () if base_name(word) and is_whole else None
        name = next(iter(word.names))
        variable = self._facts.variables.get(name)
        if variable is None:
            return [[Word("bash")]] if name in ("SHELL", "BASH") else None if word.unknown else ()
        if variable.lists or variable.appended:
            found = variable.members
            return None if any(not each or each[0].is_computed or _is_odd(each[0]) for each in found) else found
        if not all(variable.texts.values()):
            return None
        return [[Word(text)] if not word.splits else list(map(Word, text.split())) for text in variable.texts]

    def _check_name(self, word: Word, *, may_split: bool) -> None:
        """Check the name of a program whose value is not known."""
        variables = [found for name in word.names if (found := self._facts.variables.get(name)) is not None]
        lists = [each for variable in variables for each in variable.members if each]
        for field in (*word.fields, *(field for each in lists for field in each[0].fields)):
            field.is_program = True
            if word.splits and not (word.is_direct or may_split) and word.text.startswith("$"):
                problem = "the shell splits it into a program and arguments"
                raise UnsafePlaceError(field, problem, 'quote it, as in: "$program"')
        is_named_by_value = word.fields and not (word.unknown or lists or ALL_POSITIONAL in word.names)
        if _is_odd(word) or not (is_named_by_value and not (word.splits and word.names)):
            self._note("the name of a program is computed")

    # -- simple commands --------------------------------------------------------------------------------------------

    def _simple_command(self, command: Command, words: Sequence[Word]) -> None:
        """Examine a command with a name, and set the program that reads code from its standard input."""
        name, rest = base_name(words[0]), words[1:]
        self._assignments(command, name, rest)
        self._named_variables(name, rest)
        if name in self._facts.functions:
            self._positional(rest)
            if rest:
                examine(rest, self._findings)
        if name == "set":
            self._positional([word for word in rest if not word.text.startswith(("-", "+"))])
        if name == "let":
            for word in rest:
                self._evaluate_word(word)
        if name == "alias" or (name == "shopt" and any(word.text in tables.SHELL_OPTIONS for word in rest)):
            self._note("an alias may execute it")
        if name in tables.WRITERS:
            self._facts.written |= {file_name(word): None for word in rest}
        if words[0].fields and not name and (command.has_input or self._pipeline.is_piped):
            self._note("the program that a value names may execute its standard input")
        self._script(words[0])
        command.program = examine(words, self._findings) or command.program
        if name == "exec" and not rest and command.has_input:
            self._note("the commands that follow may execute their standard input")

    def _assignments(self, command: Command, name: str, rest: Sequence[Word]) -> None:
        """Note assignments in arguments."""
        if name in tables.DECLARING or name in tables.WRAPPERS:
            for word in rest:
                if word.assigns and not word.assigned:
                    # In a container, a variable may have another meaning.
                    is_own = name in tables.DECLARING or name in ("env", "sudo", "doas")
                    assign = self._assign if is_own else self._facts.assign
                    assign(word.assigns, word.content, word.text.partition("=")[2], names=word.names)
        names = [found[0] for word in rest if (found := NAME.match(word.text)) is not None]
        if name == "printf" and len(rest) > 1 and rest[0].text.startswith("-v"):
            target, values = (rest[1], rest[2:]) if rest[0].text == "-v" else (Word(rest[0].text[2:]), rest[1:])
            if (found := NAME.match(target.text)) is not None:
                text = values[1].text if len(values) == 2 and values[0].text == "%s" else "$()"
                self._assign(
                    found[0], content_of(word.content for word in values), text, [n for w in values for n in w.names]
                )
        elif name in _READING:
            for read in names:
                self._assign(read, Content(command.input.fields, f"the input of {name}"))
        elif name == "getopts":
            content = content_of((*self._facts.contents([ALL_POSITIONAL]), *(word.content for word in rest)))
            for assigned in ("OPTARG", *names[-1:]):
                self._assign(assigned, content)
        elif name in ("cd", "pushd", "popd"):
            for assigned in ("PWD", "OLDPWD"):
                self._assign(assigned, content_of(word.content for word in rest))
        if name in tables.DECLARING:
            self._attributes(name, rest)

    def _attributes(self, name: str, rest: Sequence[Word]) -> None:
        """Note the variables that a command declares as integers, and other kinds of them."""
        options = {letter for word in rest if word.text.startswith(("-", "+")) for letter in word.text}
        for word in rest:
            if "i" in options and (found := NAME.match(word.text)) is not None:
                self._facts.evaluated |= {found[0]: None}
        self._facts.has_keys |= "A" in options
        if "n" in options and name != "export":
            self._note("a variable is a reference to another one")
        if "f" in options:
            self._note("inner shells get a function")

    def _named_variables(self, name: str, rest: Sequence[Word]) -> None:
        """Note names of variables that the shell evaluates: they are computed, or have subscripts."""
        words: Iterable[Word] = ()
        if name in (*_READING, "unset", "getopts", *tables.DECLARING):
            words = [word for word in rest if not word.assigned]
        elif name in ("printf", "test", "[", "wait"):
            words = [word for option, word in itertools.pairwise(rest) if option.text in ("-v", "-R", "-p")]
            words = [*words, *(word for word in rest[:1] if word.text.startswith("-v") and name == "printf")]
        for word in words:
            named, _, value = word.text.partition("=")
            if re.search(r"[\[$\0]", named) or (name in tables.DECLARING and value.startswith("(")):
                self._note(f"{name} evaluates the name of a variable")

    def _positional(self, words: Sequence[Word]) -> None:
        """Note the values of the positional parameters."""
        self._facts.assign_list(ALL_POSITIONAL, words)
        names = [name for word in words for name in word.names]
        for word in words:
            self._facts.assign(ALL_POSITIONAL, word.content, word.text.replace(MARK, "$()"), names=names)

    def _script(self, word: Word) -> None:
        """Note that a shell executes the file which a word names."""
        self._facts.scripts |= {file_name(word): None} if not word.has_expansion else {}


def _is_odd(word: Word) -> bool:
    return not word.text.startswith("-") and word.text not in ("[", "]", "{}") and _ODD.search(word.text) is not None


def file_name(word: Word) -> str:
    """Return the last part of a path, with the names of placeholders."""
    text = word.text
    for field in word.fields if word.is_direct else ():
        text = text.replace(MARK, field.text, 1)
    return text.rpartition("/")[2].rpartition("=")[2]
