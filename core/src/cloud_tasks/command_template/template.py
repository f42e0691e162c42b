"""`CommandTemplate`: a shell command with placeholders, and the script that hands values over as data.

Invariants, each with a property test that runs bash and a POSIX shell:

1. Whatever the data, programs receive exactly the text around a placeholder and its value; the shell never parses it.
2. A template in which a value would certainly be code is refused before the first task, with what to write instead.
3. Where a shell might evaluate text again on a way that is not followed, only plain values are accepted: text that no
   shell splits, expands or executes. A task with another value fails without running.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from cloud_tasks.command_template.fields import (
    MARK,
    Field,
    Place,
    candidates,
    field_texts,
    find_value,
    is_field,
    is_like_a_name,
    misspelled,
    names_of,
    split_template,
)
from cloud_tasks.command_template.program_tables import BUILT_INS, DECODER
from cloud_tasks.command_template.rewrite import with_arguments
from cloud_tasks.command_template.script import Variables, quoted_value
from cloud_tasks.command_template.shell_syntax import read_places
from cloud_tasks.command_template.words import UnsafePlaceError
from cloud_tasks.errors import InputError
from cloud_tasks.escape import without_credentials
from cloud_tasks.sanitize import clean_text

__all__ = ["CheckedTasks", "CommandTemplate", "Invocation", "shell_line"]

_T = TypeVar("_T")

MAX_ARGUMENT_BYTES = 128 * 1024 - 1
"""Bytes of one argument or variable: Linux allows 32 pages, including the final NUL."""
_GO_TEMPLATE = re.compile(r"(?<!\{)\{\{-?\s*(?:\w+ +)?\.[^{}]*\}\}(?!\})")
"""A template of Docker, Kubernetes and others: ``{{.Name}}``."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_PLAIN = re.compile(r"(?:[+-](?=\.?[0-9]))?(?:[A-Za-z0-9_./:,%@=][A-Za-z0-9_./:,%@=+-]*)?", re.ASCII)
"""Text that no shell splits, expands or executes, and that is no option."""
_PLAIN_HINT = "use letters, digits and _./:,%@=+- only, or a script that takes the value as its argument"
_MAX_SUGGESTED = 8
_MAX_LINE = 1000
"""Characters of a line that is kept with an event."""


class Invocation(NamedTuple):
    """A command with its values."""

    script: str
    """For the shell's option ``-c``."""
    arguments: tuple[str, ...]
    """Positional parameters of the script, from ``$1``."""


class _Parsed(NamedTuple):
    """A template for data with certain fields."""

    parts: Sequence[str]
    """Text before, between and after the placeholders."""
    fields: Sequence[Field]
    unsafe: UnsafePlaceError | None
    plain: str
    """Why values must be plain text; nothing if they may be any."""
    separators: str
    """Characters that plain text does not have because the command splits words there."""


class CommandTemplate:
    """A shell command in which ``{name}`` stands for a field of the task's data.

    Args:
        is_bash: Whether bash runs it; else any POSIX shell.
        where: Location of the template, for messages.
    """

    def __init__(self, text: str, *, is_bash: bool, where: str = "") -> None:
        self.text = text
        self._is_bash = is_bash
        self._where = where
        self._prefix = "_v"
        while self._prefix in text:
            self._prefix = f"_{self._prefix}"
        self._candidates = candidates(text)
        self._parsed: dict[frozenset[str], _Parsed] = {}
        """By the candidates that the data has: once for all tasks with the same fields."""

    def prepare(self) -> None:
        """Parse the template for data that has the fields of all its placeholders, before processes are forked."""
        self._parse(frozenset(filter(is_like_a_name, self._candidates)))

    def values(
        self, task_id: str, data: Mapping[str, Any], *, attempt: int = 1, slot: int | None = 0, scratch: str = "/tmp"
    ) -> dict[str, Any]:
        """Return the values of a task: its data, and the fields that every task has.

        Raises:
            InputError: The template uses a name that is both.
        """
        fields = {"task_id": task_id, "attempt": attempt, "slot": slot, "scratch_dir": scratch}
        for name in fields:
            if name in data and f"{{{name}" in self.text:
                raise self._error(
                    f"{{{name}}} is a field of every task, and of this task's data", "rename that of the data"
                )
        return {**fields, **data}

    def check(self, values: Mapping[str, Any]) -> None:
        """Check the template with the values of a task.

        Raises:
            InputError: A placeholder has no field, or stands where its value would not be data.
        """
        for written, name in misspelled(self.text, values):
            raise self._error(
                f"{written} is not a placeholder", f"write {{{name}}}, or {{{written}}} for braces of the shell"
            )
        if go_template := _GO_TEMPLATE.search(self.text):
            doubled = go_template[0].replace("{", "{{").replace("}", "}}")
            raise self._error(f"{go_template[0]} would become {go_template[0][1:-1]}", f"write {doubled}")
        self.invocation(values)

    def invocation(self, values: Mapping[str, Any]) -> Invocation:
        """Return the script and its arguments for the data of a task.

        Raises:
            InputError: As `check`; or a value cannot be an argument, or is no integer where the shell evaluates it.
        """
        parts, fields = self._parts(values)
        variables = Variables(self._prefix, is_bash=self._is_bash)
        script = [parts[0]]
        for field, part in zip(fields, parts[1:], strict=True):
            script += [variables.reference(field, self._texts(field, values)), part]
        return Invocation(variables.assignments() + "".join(script), tuple(variables.arguments))

    def line(self, values: Mapping[str, Any], *, shown: Callable[[str], str] = str) -> str:
        """Return the command with the values quoted in their places: text for people, with the same effect.

        A here-document has no quotes, and a value may be its delimiter: the values are then arguments of a shell.

        Args:
            shown: Applied to the text of each value before it is quoted, and to the text between.

        Raises:
            InputError: As `invocation`.
        """
        parts, fields = self._parts(values)
        if any(field.place is Place.HERE for field in fields):
            script, arguments = self.invocation(values)
            shell = ("bash", "-euo", "pipefail") if self._is_bash else ("sh",)
            return shlex.join((*shell, "-c", shown(script), shell[0], *map(shown, arguments)))
        line = [shown(parts[0])]
        for field, part in zip(fields, parts[1:], strict=True):
            texts = self._texts(field, values)
            quoted = shown(texts) if isinstance(texts, str) else tuple(map(shown, texts))
            line += [quoted_value(field, quoted), shown(part)]
        return "".join(line)

    def _parts(self, values: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[Field]]:
        """Return the text before, between and after the placeholders, and these. Raises `InputError` as `check`."""
        if MARK in self.text:
            raise self._error("the command contains a NUL character", "remove it")
        parsed = self._parse(frozenset(name for name in self._candidates if is_field(name, values)))
        for field in parsed.fields:
            if not field.is_known and field.place is not Place.COMMENT:
                raise self._unknown(field, values)
        if (unsafe := parsed.unsafe) is not None:
            raise self._unsafe(unsafe)
        if parsed.plain:
            self._check_plain(parsed, values)
        return parsed.parts, parsed.fields

    def _check_plain(self, parsed: _Parsed, values: Mapping[str, Any]) -> None:
        """Raise `InputError` for a value that is not plain text, also if it is the task's id, which is a variable."""
        used = [field for field in parsed.fields if field.place is not Place.COMMENT and field.unsafe is None]
        for field in (*used, *([Field("task_id", is_known=True)] if "task_id" in values else ())):
            texts = field_texts(find_value(field.name, values))
            for text in texts if isinstance(texts, tuple) and field.place is Place.WORD else (texts,):
                text = " ".join(text) if isinstance(text, tuple) else text
                if not _PLAIN.fullmatch(text) or any(letter in text for letter in parsed.separators):
                    problem = f'{field.text} has the value "{_shortened(text)}", which is not plain text'
                    raise self._error(f"{problem}, and {parsed.plain}", _PLAIN_HINT)

    def _unsafe(self, error: UnsafePlaceError) -> InputError:
        remedy = error.remedy if error.shell_code is None else f"use {with_arguments(*error.shell_code)}"
        return self._error(f"{error.field.text} is not data there: {error.problem}", remedy)

    def _parse(self, known: frozenset[str]) -> _Parsed:
        parsed = self._parsed.get(known)
        if parsed is None:
            text, fields = split_template(self.text, known)
            unsafe, plain, separators = None, "", ""
            try:
                facts = read_places(text, fields, is_bash=self._is_bash)
                plain, separators = facts.plain, "".join(facts.separators)
                if plain and fields and (decoder := DECODER.search(text)) is not None:
                    problem = f"{plain}, and {decoder[0].split()[0]} makes any text from a value"
                    raise UnsafePlaceError(fields[0], problem, "decode it in a script")
            except UnsafePlaceError as error:
                # Without a field, the shell reports the error.
                unsafe = error if error.field.name or fields else None
            parsed = self._parsed[known] = _Parsed(text.split(MARK), fields, unsafe, plain, separators)
        return parsed

    def _texts(self, field: Field, values: Mapping[str, Any]) -> tuple[str, ...] | str:
        """Return the text of a field's value, or the texts of a list where there may be several words."""
        if field.place is Place.COMMENT:
            return ""
        value = find_value(field.name, values)
        texts = field_texts(value)
        if isinstance(field.unsafe, UnsafePlaceError) and not _is_number(value):
            raise self._unsafe(field.unsafe)
        if isinstance(texts, tuple) and (field.place is not Place.WORD or field.is_integer):
            texts = " ".join(texts)
        if field.is_program and isinstance(texts, tuple) and len(texts) > 1:
            problem = f"the value of {field.text}, the name of the program, is a list"
            raise self._error(problem, "use one text, and further fields for the arguments")
        for text in (texts,) if isinstance(texts, str) else texts:
            self._check_text(field, text)
        if field.is_integer:
            assert isinstance(texts, str)
            if not _INTEGER.fullmatch(texts):
                raise self._error(
                    f'{field.text} has the value "{_shortened(texts)}"; the shell evaluates it as arithmetic',
                    "use an integer, or another program for the calculation",
                )
            return str(int(texts))
        return texts

    def _check_text(self, field: Field, text: str) -> None:
        if MARK in text:
            problem = f"the value of {field.text} has a NUL character, which no argument can have"
        elif len(text) * 4 > MAX_ARGUMENT_BYTES and len(encoded(text)) > MAX_ARGUMENT_BYTES:
            problem = f"the value of {field.text} has {len(encoded(text)):,} bytes; an argument has at most 128 KiB"
        elif field.is_program and text in BUILT_INS:
            problem = f'the value of {field.text}, the name of the program, is the built-in command "{text}"'
        else:
            try:
                encoded(text)
                return
            except UnicodeEncodeError:
                problem = f"the value of {field.text} has a character that cannot be encoded"
        raise self._error(problem, "let the program read the file that CLOUD_TASKS_DATA_FILE names")

    def _unknown(self, field: Field, values: Mapping[str, Any]) -> InputError:
        import difflib

        names = list(names_of(values))
        close = difflib.get_close_matches(field.name, names, n=1)
        if close:
            hint = f"did you mean {{{close[0]}}}?"
        else:
            hint = f"fields: {', '.join(names[:_MAX_SUGGESTED])}{', …' if len(names) > _MAX_SUGGESTED else ''}"
        return self._error(
            f"the task's data has no field for {field.text}", f"{hint} (braces of the shell: {{{{{field.name}}}}})"
        )

    def _error(self, problem: str, hint: str) -> InputError:
        return InputError(problem, where=self._where, hint=hint)


def encoded(text: str) -> bytes:
    """Return text as a program gets it: UTF-8, and the bytes of file names that are not UTF-8 as they were."""
    return text.encode("utf-8", "surrogateescape")


def _is_number(value: Any) -> bool:
    """Return whether a value is a number whose text has digits, sign and point only: sed executes what follows an e."""
    return isinstance(value, (int, float)) and _DECIMAL.fullmatch(str(value)) is not None


def _shortened(text: str) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= 40 else f"{text[:39]}…"


def shell_line(template: CommandTemplate, values: Mapping[str, Any]) -> str:
    """Return the command with values filled in, for people: without passwords in URLs, of bounded length.

    Empty if there is no such line.
    """
    try:
        # Without credentials before quotes are added: removing text with quotes would make other text code.
        return clean_text(template.line(values, shown=without_credentials), _MAX_LINE)
    except (InputError, ValueError, TypeError, RecursionError):
        return ""


class CheckedTasks(Generic[_T]):
    """Tasks of a source, the first of which is checked before it is yielded.

    Args:
        check: Raises `InputError` if the command cannot be used for the task.
    """

    def __init__(self, source: Iterable[_T], check: Callable[[_T], None]) -> None:
        self._source = source
        self._check = check
        self.where = str(getattr(source, "where", ""))
        """Location of the source, for messages."""

    def __iter__(self) -> Iterator[_T]:
        is_first = True
        for task in self._source:
            if is_first:
                self._check(task)
                is_first = False
            yield task
