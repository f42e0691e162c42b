"""Check of a command's words: which of them its program reads as code, where no quoting makes a value data.

A value inside such a word would be parsed a second time, by the program's own rules.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cloud_tasks.command_template import program_tables as tables
from cloud_tasks.command_template.fields import MARK, Field
from cloud_tasks.command_template.words import UnsafePlaceError, Word

__all__ = ["Findings", "base_name", "examine", "is_shell", "refuse_input"]


class Findings(NamedTuple):
    """Receivers of what is found in a command."""

    read_code: Callable[[str, Sequence[Word] | None], None]
    """Reads shell code without placeholders, and its arguments from ``$0``."""
    note: Callable[[str], None]
    """Notes why values must be plain text."""
    script: Callable[[Word], None]
    """Notes a file that a shell executes."""


_INPUT = "its standard input"
_PATH_OF_PROGRAM = re.compile(r"\s*(?:which|command\s+-v|type\s+-[pP])\s+([\w./+-]+)\s*", re.ASCII)
"""Commands that print the path of a program."""
_FILE_REMEDY = "a file with the code, which takes the value from an argument or the environment"
_SEVERAL = 9
"""Number of arguments that xargs appends, as far as it matters."""


def examine(words: Sequence[Word], findings: Findings) -> str:
    """Check the words of a simple command; return the program that reads code from its standard input, else nothing.

    Raises:
        UnsafePlaceError: A word with a placeholder would be read as code.
    """
    names = [base_name(word) for word in words]
    _examine_code_options(names[0] if names else "", words, findings)
    program = ""
    for at in range(len(words)):
        if at and not _may_begin_command(names, at):
            continue
        rest = words[at + 1 :]
        if words[at].text == MARK:
            for field in words[at].fields:
                field.is_program = True
        if names[at] == "find":
            program = program or _examine_found(rest, findings)
        _examine_built_in(names[at], rest, findings)
        _examine_program(names[at], rest, findings)
        reads = _xargs_reads_code(rest, findings) if names[at] == "xargs" else _reads_code(names[at], rest)
        program = program or (names[at] if reads else "")
    return program


def _examine_code_options(name: str, words: Sequence[Word], findings: Findings) -> None:
    """Refuse a value within text that looks like code, after an option that usually has code, of any program."""
    for word in words:
        if word.text.startswith("BASH_FUNC_"):
            _refuse([word], "shells read it as a function", "a variable of another name", findings)
    has_rules = name in tables.FIRST_ARGUMENT or any(each.name.fullmatch(name) for each in tables.INTERPRETERS)
    if has_rules or name in tables.TEXT_PROGRAMS:
        return
    for option, word in itertools.pairwise(words):
        text = word.text
        if not tables.CODE_OPTION.fullmatch(option.text):
            attached, _, text = text.partition("=")
            if not tables.CODE_OPTION.fullmatch(attached):
                continue
        # Values with blanks between are no more code than a single one.
        if word.is_direct and text.replace(MARK, "").strip() and tables.CODE_LIKE.search(text) and MARK in text:
            remedy = "a script that takes the value as its argument"
            _refuse([word], f"{name or 'the program'} may execute it as code", remedy, findings)


def base_name(word: Word) -> str:
    """Return the name of the program that a word calls; nothing if it is not known."""
    found = _PATH_OF_PROGRAM.fullmatch(word.substituted) if word.text == "$()" else None
    name = (found[1] if found else word.text).rpartition("/")[2]
    return "" if MARK in name or "$" in name else name


def _may_begin_command(names: Sequence[str], at: int) -> bool:
    """Return whether a word after the first may be the name of a program that the first one starts."""
    if names[0] in tables.WRAPPERS or not names[0]:
        return _is_known(names[at]) or names[at - 1] in ("command", "builtin", "exec")
    has_code = any(tables.SHELL.option.fullmatch(name) for name in names[at + 1 :])
    return has_code and tables.SHELL.name.fullmatch(names[at]) is not None


def _is_known(name: str) -> bool:
    return (
        name in ("eval", "source", "make", "gmake", "xargs", "find")
        or name in tables.FIRST_ARGUMENT
        or name in tables.JOINING
        or name in tables.REMOTE_SHELLS
        or any(each.name.fullmatch(name) for each in tables.INTERPRETERS)
        or tables.READS_INPUT.fullmatch(name) is not None
    )


def _examine_built_in(name: str, rest: Sequence[Word], findings: Findings) -> None:
    problem = f"{name} evaluates it"
    if name == "eval":
        _refuse(rest, "eval executes it", "the command itself, without eval", findings)
        _read_code(findings, rest, None)
    elif name in tables.EVALUATING:
        is_reading = name in ("read", "mapfile", "readarray")
        _refuse(rest, problem, tables.EVALUATING[name], findings, is_noted=name != "let" and not is_reading)
        if name == "trap" and rest:
            _read_code(findings, rest[:1], None)
        if is_reading and any(re.match(r"-[A-Za-z]*C", word.text) for word in rest):
            findings.note(f"{name} -C executes its standard input")
    elif name in tables.DECLARING:
        _examine_declared(rest, problem, findings)
    elif name in ("source", "."):
        for word in rest[:1]:
            _refuse([word] if word.has_process else [], problem, "a file with the commands", findings)
            if word.unknown or word.has_process or (word.names and not tables.PATH.fullmatch(word.text)):
                findings.note(f"{name} executes {word.unknown or 'a file'}")
            findings.script(word)
    elif name in ("printf", "test", "["):
        names = [word for option, word in itertools.pairwise(rest) if option.text in ("-v", "-R")]
        attached = [word for word in rest if word.text.startswith(f"-v{MARK}")]
        _refuse([*names, *attached], problem, tables.VALUE_REMEDY, findings)


def _examine_declared(rest: Sequence[Word], problem: str, findings: Findings) -> None:
    options = {letter for word in rest if word.text.startswith(("-", "+")) for letter in word.text}
    for word in rest:
        name = word.text.partition("=")[0]
        is_array = word.text.endswith("=()")
        if "A" in options and not is_array:
            remedy = f"separate commands, as in: declare -A {name}; {name}[key]={{field}}"
            _refuse([word], problem, remedy, findings)
        elif "n" in options or ("a" in options and not is_array) or not (word.assigned or word.assigns):
            _refuse([word], problem, tables.VALUE_REMEDY, findings)


def _examine_program(name: str, rest: Sequence[Word], findings: Findings) -> None:
    if _is_known(name):
        for option, word in itertools.pairwise((Word(name), *rest)):
            # Probably an option for a file with code.
            if word.has_process and (option.text.startswith("-") or word.text.startswith("-")):
                if tables.SHELL.name.fullmatch(name):
                    findings.note(f"{name} may execute {word.unknown or 'its arguments'} as code")
                _refuse([word], f"{name} may execute it as code", _FILE_REMEDY, findings)
    if name in tables.FIRST_ARGUMENT:
        _examine_first_argument(name, tables.FIRST_ARGUMENT[name], rest, findings)
    elif name in tables.REMOTE_SHELLS:
        _examine_remote_shell(name, rest, findings)
    elif name in tables.JOINING:
        code = rest
        if name == "parallel":
            code = list(itertools.takewhile(lambda word: not word.text.startswith(":::"), rest))
            # Without a program, the values are commands.
            code = code if any(not word.text.startswith("-") for word in code) else rest
            numbers = [word for option, word in itertools.pairwise(code) if option.text in tables.PARALLEL_NUMBERS]
            code = [word for word in code if word not in numbers]
            _refuse(numbers, f"{name} may execute it as code", "a number", findings, accepts_numbers=True)
        _refuse(code, f"{name} passes it to a shell, which executes it", tables.JOINING[name], findings)
    elif name in ("make", "gmake"):
        odd = [word for word in rest if word.text.startswith(MARK) or "=" in word.text.partition(MARK)[0]]
        options = [word for option, word in itertools.pairwise(rest) if option.text in tables.MAKE_OPTIONS]
        _refuse(
            [word for word in odd if word not in options],
            f"{name} expands it",
            "the value in the environment, as in: VALUE={field} make target",
            findings,
        )
    elif name == "git":
        for option, word in itertools.pairwise(rest):
            if not option.text.startswith("-") and "=" not in option.text:
                break
            if option.text == "-c" and not tables.GIT_SETTING.match(word.text):
                _refuse([word], "git may execute it", "a setting in a file", findings)
    for interpreter in tables.INTERPRETERS:
        if interpreter.name.fullmatch(name):
            _examine_options(name, interpreter, rest, findings)


def _examine_options(name: str, kind: tables.Interpreter, rest: Sequence[Word], findings: Findings) -> None:
    is_code = has_code = False
    previous = ""
    for at, word in enumerate(rest):
        text = word.text
        is_option = text.startswith(("-", "+")) and text != "-"
        if is_code:
            if word.fields:
                _refuse_code(name, kind, word)
            if is_option:
                continue
            if kind is tables.SHELL:
                _read_code(findings, [word], rest[at + 1 :], name)
                return
            if word.unknown:
                findings.note(f"{name} executes {word.unknown} as code")
            if text == "":
                return
            is_code, has_code = False, True
        elif kind.option.fullmatch(text):
            is_code = True
        elif is_option:
            letters, mark, _ = text.partition(MARK)
            is_attached = mark and letters not in kind.takes and re.fullmatch("-[A-Za-z0-9]*", letters) is not None
            if word.fields and (is_attached or kind.option.match(text) or tables.LOADS_CODE.fullmatch(text)):
                _refuse_code(name, kind, word)
            if text == "-m":
                return
        elif word.fields and tables.LOADS_CODE.fullmatch(previous):
            _refuse_code(name, kind, word)
        elif previous not in kind.takes and kind.has_script:
            if word.has_process:
                if word.fields:
                    _refuse_code(name, kind, word)
                findings.note(f"{name} executes {word.unknown or 'its arguments'} as code")
            findings.script(word)
            is_odd = word.unknown or (word.has_expansion and not tables.PATH.fullmatch(text))
            if kind is tables.SHELL and is_odd:
                findings.note(f"an argument of {name} may be an option")
            if has_code or not previous.startswith(("-", "+")) or _is_file(word):
                return
        previous = text


def _read_code(findings: Findings, words: Sequence[Word], arguments: Sequence[Word] | None, name: str = "eval") -> None:
    """Read code in words if it is written in the template."""
    computed = [word for word in words if word.fields or word.unknown or word.names or word.has_process]
    if all(word.text == "$()" for word in words) and not computed:
        # Settings that a program of the machine prints.
        return
    if not computed:
        findings.read_code(" ".join(word.text for word in words), arguments)
    else:
        findings.note(f"{name} executes {next((word.unknown for word in words if word.unknown), 'computed text')}")


def _refuse_code(name: str, kind: tables.Interpreter, word: Word) -> None:
    """Refuse values in code, numbers only for shells and programs that start them."""
    for field in word.fields:
        error = _unsafe(field, f"{name} executes it as code", kind.remedy.replace("{program}", name))
        error.shell_code = (name, word) if kind is tables.SHELL else None
        if is_shell(name) or not word.is_direct:
            raise error
        field.unsafe = error


def _is_file(word: Word) -> bool:
    return word.text == MARK or any(letter in word.text for letter in "./")


def _examine_first_argument(name: str, kind: tables.FirstArgument, rest: Sequence[Word], findings: Findings) -> None:
    problem = f"{name} reads it as code"
    has_code = any(word.text.startswith(option) for word in rest for option in kind.files)
    skipped, plain, code_is_next = 0, 0, False
    for word in rest:
        text = word.text
        if skipped:
            skipped -= 1
        elif code_is_next or (kind.code and text.startswith(kind.code)):
            _refuse([word], problem, kind.remedy, findings, accepts_numbers=True)
            has_code, code_is_next = True, not code_is_next and text in kind.code
        elif text.startswith("-") and text != "-":
            skipped = kind.takes.count(text)
        else:
            if plain in kind.places and not has_code:
                _refuse([word], problem, kind.remedy, findings, accepts_numbers=True)
            plain += 1


def _examine_remote_shell(name: str, rest: Sequence[Word], findings: Findings) -> None:
    options, remote = _split_ssh(rest)
    odd = [
        word for at, word in enumerate(options) if word.text.startswith("-o") or (at and options[at - 1].text == "-o")
    ]
    problem = f"{name} passes it to a remote shell, which executes it"
    _refuse([*odd, *remote], problem, tables.SSH_REMEDY, findings)


def _split_ssh(rest: Sequence[Word]) -> tuple[Sequence[Word], Sequence[Word]]:
    """Return the words up to the host, and those of the remote command."""
    is_argument = False
    for at, word in enumerate(rest):
        if not is_argument and not word.text.startswith("-"):
            return rest[: at + 1], rest[at + 1 :]
        is_argument = not is_argument and word.text in tables.SSH_OPTIONS
    return rest, ()


def _reads_code(name: str, rest: Sequence[Word]) -> bool:
    """Return whether a program reads code from its standard input."""
    if name in ("source", "."):
        return any(tables.STANDARD_INPUT.fullmatch(word.text) for word in rest)
    if name in tables.REMOTE_SHELLS:
        remote = [text.strip("'\"") for word in _split_ssh(rest)[1] for text in word.text.split()]
        words = [Word(text) for text in remote]
        return not words or any(_reads_code(base_name(word), words[at + 1 :]) for at, word in enumerate(words))
    if name in ("sed", "gsed") and any(tables.SED_EXECUTES.search(word.text) for word in rest):
        return True
    if name in tables.FIRST_ARGUMENT or name in ("make", "gmake"):
        files = tables.FIRST_ARGUMENT[name].files if name in tables.FIRST_ARGUMENT else ("-f", "--file", "--makefile")
        given = [word.text for option, word in itertools.pairwise(rest) if option.text in files]
        attached = [word.text.removeprefix(option) for word in rest for option in files if word.text != option]
        if any(tables.STANDARD_INPUT.fullmatch(text.removeprefix("=")) for text in (*given, *attached)):
            return True
    return tables.READS_INPUT.fullmatch(name) is not None and _has_no_code(name, rest)


def _xargs_reads_code(rest: Sequence[Word], findings: Findings) -> bool:
    """Return whether the program that xargs starts reads as code what xargs reads."""
    started = list(itertools.dropwhile(lambda word: word.text not in tables.WRAPPERS, rest))
    if started and all(word.text in tables.WRAPPERS or tables.WRAPPED.fullmatch(word.text) for word in started):
        # The input names the program.
        return True
    start = next((at for at, word in enumerate(rest) if _is_known(base_name(word))), len(rest))
    replaced = ""
    for option, following in itertools.pairwise(rest[: start + 1]):
        if match := tables.XARGS_REPLACES.fullmatch(option.text):
            replaced = (match[1] or following.text) if match[1] is not None else (match[2] or match[3] or "{}")
    words = [_with_input(word, replaced) for word in rest[start:]]
    if not replaced:
        words += [Word("{}", _INPUT)] * _SEVERAL
    noted: list[str] = []
    examine(words, findings._replace(note=noted.append))
    return any(_INPUT in reason for reason in noted)


def _examine_found(rest: Sequence[Word], findings: Findings) -> str:
    """Examine the programs that find starts with the files which it finds; return one that reads standard input."""
    starts = itertools.takewhile(lambda word: not word.text.startswith(("-", "(", "!")), rest)
    fields = [field for word in starts for field in word.fields]
    program = ""
    for at, word in enumerate(rest):
        if word.text in tables.FIND_OPTIONS:
            words = itertools.takewhile(lambda each: each.text not in (";", "+"), rest[at + 1 :])
            found = examine([_with_input(each, "{}", fields) for each in words], findings)
            program = program or found
    return program


def _with_input(word: Word, replaced: str, fields: Sequence[Field] = ()) -> Word:
    """Return a word in which a text stands for input that may have fields."""
    if not replaced or replaced not in word.text:
        return word
    changed = Word(word.text.replace(replaced, MARK if fields else "$()"), "" if fields else _INPUT)
    changed.fields = [*word.fields, *fields]
    return changed


def _has_no_code(name: str, rest: Sequence[Word]) -> bool:
    """Return whether the arguments of an interpreter neither are its code nor name a file with it."""
    kind = next((each for each in tables.INTERPRETERS if each.name.fullmatch(name)), None)
    if not any(tables.STANDARD_INPUT.fullmatch(word.text) for word in rest):
        if name == "sqlite3" and sum(not word.text.startswith("-") for word in rest) > 1:
            return False
        if name in tables.NAMES_CODE and any(tables.NAMES_CODE[name].match(word.text) for word in rest):
            return False
    previous = ""
    for word in rest:
        text = word.text
        if tables.STANDARD_INPUT.fullmatch(text):
            return True
        if name == "parallel" and text.startswith(":::"):
            return True
        if kind is tables.SHELL and text.startswith("-") and "s" in text and not text.startswith("--"):
            return True
        if kind is not None and kind.has_script and kind.option.match(text) and text.startswith(("-", "eval")):
            return False
        if text == "-m":
            return False
        takes = kind.takes if kind is not None else ()
        if not text.startswith(("-", "+")) and previous not in takes and tables.TAKES_SCRIPT_NAME.fullmatch(name):
            return False
        previous = text
    return True


def is_shell(program: str) -> bool:
    """Return whether a program that reads code starts others, unlike one that calculates."""
    return tables.LANGUAGES.fullmatch(program) is None


def refuse_input(fields: Sequence[Field], program: str) -> None:
    """Refuse fields in the input of a program that executes it; numbers for some."""
    for field in fields:
        remedy = "put the code into a file, and give it the value as an argument"
        error = UnsafePlaceError(field, f"{program} executes its standard input", remedy)
        if is_shell(program):
            raise error
        field.unsafe = error


def _refuse(
    words: Sequence[Word],
    problem: str,
    remedy: str,
    findings: Findings,
    *,
    accepts_numbers: bool = False,
    is_noted: bool = True,
) -> None:
    """Refuse values in words, and note other text in them that is not known."""
    for word in words:
        for field in word.fields:
            error = _unsafe(field, problem, remedy)
            if not accepts_numbers:
                raise error
            field.unsafe = error
        if word.unknown and is_noted:
            findings.note(re.sub(r"\bit\b", word.unknown, problem, count=1))


def _unsafe(field: Field, problem: str, remedy: str) -> UnsafePlaceError:
    return UnsafePlaceError(field, problem, f"use {remedy.replace('{field}', field.text)}")
