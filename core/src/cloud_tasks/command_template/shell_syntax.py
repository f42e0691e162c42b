"""Reader of shell syntax: determines for each placeholder of a template the quoting in which it stands.

The text of a template has a `MARK` for each placeholder. The reader follows the language of bash and of POSIX shells:
quotes, expansions, arithmetic, here-documents, comments, compound commands. It evaluates nothing. Where a value
could not be handed over as data, it raises `UnsafePlaceError`.

Invariant, with a test that runs the shells: the place of a field is the one in which the shell reads it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

from cloud_tasks.command_template.commands import Command, HereDocument, Pipeline
from cloud_tasks.command_template.fields import MARK, Field, Place
from cloud_tasks.command_template.program_tables import INTEGER_VARIABLES
from cloud_tasks.command_template.programs import refuse_input
from cloud_tasks.command_template.shell_data_flow import CommandExaminer, file_name
from cloud_tasks.command_template.shell_words import BLANKS, BLANKS_AND_LINES
from cloud_tasks.command_template.words import Facts, UnsafePlaceError, Word, content_of

__all__ = ["ShellReader", "read_places"]

_REDIRECTION = re.compile(r"&>>|&>|<<<|<<-|<<|<&|<>|>>|>&|>\||<|>")
_CLOSING = {"{": "}", "if": "fi", "while": "done", "until": "done", "for": "done", "select": "done"}
_CONTINUING = ("then", "else", "elif", "do", "!")
_TIME_OPTIONS = re.compile(r"[ \t]*(?:-p|--)(?=[ \t])(?:[ \t]+--(?=[ \t]))?")
_COPROCESS_NAME = re.compile(r"[ \t]*[A-Za-z_]\w*[ \t]+(?=[{(]|(?:if|while|until|for|select|case|\[\[)\s)")
_COMPARISONS = ("-eq", "-ne", "-lt", "-le", "-gt", "-ge")


def read_places(text: str, fields: Sequence[Field], *, is_bash: bool) -> Facts:
    """Set the place of each field, and return what was found.

    Args:
        text: Template with a `MARK` for each of the fields.
        is_bash: Whether bash runs it; else any POSIX shell.

    Raises:
        UnsafePlaceError: A value would not be data where its placeholder stands.
    """
    facts, size = Facts(), -1
    facts.evaluated |= dict.fromkeys(INTEGER_VARIABLES)
    # Commands may run after assignments that stand below them.
    while (fields or "CLOUD_TASKS_TASK_ID" in text) and facts.size != size:
        size = facts.size
        ShellReader(text, fields, facts, is_bash=is_bash).read()
    return facts


class ShellReader(CommandExaminer):
    """Reads commands."""

    def __init__(self, text: str, fields: Sequence[Field], facts: Facts, *, is_bash: bool, depth: int = 0) -> None:
        super().__init__(text, fields, facts, is_bash=is_bash, depth=depth)
        self._here_documents: list[HereDocument] = []
        self._is_loop_head = False
        """Whether the next command is the head of a loop: a variable and its values."""

    def read(self) -> None:
        """Read the text to its end, and raise `UnsafePlaceError` for a value that would not be data."""
        self._commands("")
        self._mark_evaluated()
        for file in self._facts.scripts.keys() & self._facts.written.keys():
            self._note(f"the command writes the file {file}, which it executes")

    # -- commands --------------------------------------------------------------------------------------------------

    def _nested(self, closing: str) -> None:
        """Read commands up to the closing word or parenthesis."""
        if not self._commands(closing):
            raise self._unclosed(closing)

    def _commands(self, closing: str) -> str:
        """Read commands; return what ended them, nothing at the end of the text."""
        outer, self._pipeline = self._pipeline, Pipeline(len(self._outputs))
        ended = self._list(closing)
        self._pipeline = outer
        return ended

    def _compound(self, command: Command, read: Callable[[], None]) -> None:
        """Read a compound command."""
        read()
        command.is_compound = True

    def _list(self, closing: str) -> str:
        text, command = self._text, Command(len(self._outputs))
        command.is_loop = closing == "done" and self._is_loop_head
        self._is_loop_head = False
        descriptor = ""
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
                self._examine(command)
                if operator in ("|", "|&"):
                    self._pipeline.is_piped = True
                else:
                    self._pipeline = Pipeline(len(self._outputs))
                command = Command(len(self._outputs))
                if operator == "\n":
                    self._read_here_documents()
                elif closing == "esac" and operator in (";;", ";&", ";;&"):
                    return operator
            elif letter == "(":
                self._parenthesis(command)
            elif letter == ")":
                self._examine(command)
                self._at += 1
                if closing == ")":
                    return closing
                command = Command(len(self._outputs))
            elif letter in "<>&" and not text.startswith("(", self._at + 1):
                self._redirection(command, descriptor)
                descriptor = ""
            else:
                start = self._at
                word = self._word(may_assign=command.expects_name or command.declares)
                self._at = max(self._at, start + 1)
                descriptor = self._descriptor(word) if text.startswith(("<", ">"), self._at) else ""
                if descriptor:
                    continue
                is_reserved = command.expects_name and not command.words and word.is_plain
                if is_reserved and closing and word.text == closing:
                    return closing
                if is_reserved and self._reserved(word.text, command):
                    continue
                if command.is_loop and len(command.words) == 1 and word.is_plain and word.text == "do":
                    self._examine(command)
                    command = Command(len(self._outputs))
                    continue
                command.words.append(word)
        self._examine(command)
        return ""

    def _operator(self) -> str:
        for operator in (";;&", ";;", ";&", "&&", "||", "|&", "\n", ";", "&", "|"):
            if self._text.startswith(operator, self._at):
                self._at += len(operator)
                return operator
        raise AssertionError("no operator")

    def _parenthesis(self, command: Command) -> None:
        if command.expects_name and self._text.startswith("((", self._at) and self._try_arithmetic(2):
            command.is_compound = True
            return
        self._at += 1
        if command.words:
            # The definition of a function: its body is a command.
            self._skip(BLANKS)
            if self._text.startswith(")", self._at):
                self._at += 1
                self._facts.functions[command.words[0].text] = None
                command.words.clear()
                return
        self._compound(command, lambda: self._nested(")"))

    def _reserved(self, word: str, command: Command) -> bool:
        """Read the compound command that a reserved word begins; return whether it is one."""
        if word in _CLOSING:
            self._is_loop_head = word in ("for", "select")
            self._compound(command, lambda: self._nested(_CLOSING[word]))
        elif word == "case":
            self._compound(command, self._case)
        elif word == "[[":
            self._conditional()
            command.is_compound = True
        elif word == "function":
            self._skip(BLANKS)
            self._facts.functions[self._word().text] = None
        elif word == "time":
            self._skip(_TIME_OPTIONS)
        elif word == "coproc":
            # A compound command has a name for the process before it.
            self._skip(_COPROCESS_NAME)
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
                if word.is_computed or "[" in word.text:
                    self._note("[[ evaluates the name of a variable")
        for at, operator in enumerate(words):
            operands = words[max(at - 1, 0) : at + 2]
            if operator.text == "=~":
                self._assign("BASH_REMATCH", content_of(word.content for word in operands))
            if operator.is_plain and operator.text in _COMPARISONS:
                for operand in operands:
                    self._evaluate_word(operand)

    # -- redirections and here-documents ----------------------------------------------------------------------------

    def _descriptor(self, word: Word) -> str:
        """Return the descriptor, or the variable for it (``{name}>file``), that a word before a redirection names."""
        if word.text.startswith("{") and word.text.endswith("}"):
            descriptor, word.text = word.text, word.text[1:-1]
            self._evaluate_word(word)
            return descriptor
        return word.text if word.is_plain and word.text.isdigit() else ""

    def _redirection(self, command: Command, descriptor: str) -> None:
        match = _REDIRECTION.match(self._text, self._at)
        if match is None:
            self._at += 1
            return
        self._at = match.end()
        self._skip(BLANKS)
        first = self._count
        word = self._word(one_word=True)
        command.has_input |= match[0].startswith("<")
        if match[0] in ("<<", "<<-"):
            self._refuse_since(first, "it is the delimiter of a here-document", "use a delimiter without data")
            self._here_documents.append(HereDocument(word, match[0] == "<<-", command, self._pipeline))
        elif match[0] == "<<<" or (match[0] == "<" and word.has_process):
            command.input = word.content
        elif ">" in match[0]:
            self._facts.written |= {file_name(word): None}
        if match[0] == ">&" and (not descriptor or (descriptor.isdigit() and int(descriptor) == 1)):
            for field in word.fields:
                instead = f"&> {field.text}" if self._is_bash else f"> {field.text} 2>&1"
                raise UnsafePlaceError(field, "the shell evaluates the word after >& twice", f"write {instead}")
            if word.unknown:
                self._note(f"the shell evaluates {word.unknown} twice after >&")

    def _read_here_documents(self) -> None:
        pending, self._here_documents = self._here_documents, []
        for document in pending:
            self._here_document(document)

    def _here_document(self, document: HereDocument) -> None:
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
        first, position = self._count, self._position()
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
                self._backquotes(Word())
            elif letter == "$":
                self._dollar(Word(), is_quoted=True)
            else:
                self._at += 1
        self._at = max(self._at, following)
        if document.is_quoted:
            problem = "the shell expands nothing in a here-document with a quoted delimiter"
            self._refuse_since(first, problem, "remove the quotes")
        content = self._content(position)
        self._forget(position)
        self._outputs.append(content)
        if program := document.command.program or document.pipeline.program:
            refuse_input(content.fields, program)
            if content.unknown:
                self._note(f"{program} executes {content.unknown}")
