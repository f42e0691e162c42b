"""Whether a script sets an environment variable for the program that it starts.

Invariants, each with a test:

1. Nothing is executed, and text that is no command of the script's own shell sets nothing: arguments, comments,
   here-documents, substitutions, other shells.
2. A variable counts as set if the script exports it, with a value or from elsewhere, or sets it for a command that
   starts a worker. Of a script that cannot be read to its end, what stands before the unreadable part counts.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence

from cloud_tasks.command_template.commands import Command
from cloud_tasks.command_template.fields import MARK
from cloud_tasks.command_template.shell_syntax import ShellReader
from cloud_tasks.command_template.words import Facts, UnsafePlaceError, Word

__all__ = ["exports_variable"]

_MAY_BE_EMPTY = re.compile(r"""["']?(?:\$\{\w+:?-(?:""|'')?\})?["']?""")
_OPERATOR = re.compile(r"[;&|]+\Z")
_READING = ("read", "mapfile", "readarray")
_CONTAINERS = ("docker", "podman", "nerdctl", "apptainer", "singularity")
_WRAPPERS = ("env", "ionice", "nice", "nohup", "setsid", "stdbuf", "sudo", "taskset", "time", "timeout")
_WORKER = re.compile(r"python[0-9.]*|cloud[-_]tasks|.*\.py|.*worker.*|uv|poetry|pipenv|conda")
_OWN_MODULES = ("pip", "venv", "ensurepip")
"""Modules of Python that start no worker."""


class _Node:
    """A command with the compound commands that it consists of."""

    __slots__ = ("end", "function", "groups", "words")

    def __init__(self) -> None:
        self.words: Sequence[Word] = ()
        self.groups: list[tuple[bool, list[_Node]]] = []
        """Compound commands, and whether each is a subshell."""
        self.function = ""
        """Function whose definition it is."""
        self.end = ""
        """``|`` or ``&`` after it: it is run by a subshell."""


class _TreeReader(ShellReader):
    """Reads the commands of a script into a tree."""

    def __init__(self, script: str) -> None:
        super().__init__(script, (), Facts(), is_bash=True)
        self.nodes: list[_Node] = []
        self._made: dict[int, tuple[Command, _Node]] = {}
        self._sources: dict[int, tuple[Word, str]] = {}

    def source(self, word: Word) -> str:
        """Return the text of a word, with its quotes."""
        return self._sources[id(word)][1]

    def _node(self, command: Command) -> _Node:
        """Return the node of a command, which is in the tree from its beginning on."""
        if id(command) not in self._made:
            self._made[id(command)] = (command, _Node())
            self.nodes.append(self._made[id(command)][1])
        return self._made[id(command)][1]

    def _examine(self, command: Command) -> None:
        if not command.words and id(command) not in self._made:
            return
        node = self._node(command)
        node.words = tuple(command.words)
        operator = _OPERATOR.search(self._text, max(self._at - 3, 0), self._at)
        node.end = operator[0][0] if operator and operator[0] in ("|", "|&", "&") else ""

    def _compound(self, command: Command, read: Callable[[], None]) -> None:
        node, outer, children = self._node(command), self.nodes, list[_Node]()
        node.groups.append((self._text[self._at - 1] == "(", children))
        self.nodes = children
        super()._compound(command, read)
        self.nodes = outer

    def _parenthesis(self, command: Command) -> None:
        name = command.words[0].text if command.words else ""
        super()._parenthesis(command)
        if name and not command.words:
            self._node(command).function = name

    def _reserved(self, word: str, command: Command) -> bool:
        is_reserved = super()._reserved(word, command)
        if word == "function":
            self._node(command).function = next(reversed(self._facts.functions))
        return is_reserved

    def _word(self, *, one_word: bool = False, may_assign: bool = False) -> Word:
        start = self._at
        word = super()._word(one_word=one_word, may_assign=may_assign)
        self._sources[id(word)] = (word, self._text[start : self._at])
        return word

    def _code(self, text: str, arguments: Sequence[Word] | None) -> None:
        """Skip code in arguments: another shell runs it."""

    def _dollar(self, word: Word, *, is_quoted: bool) -> None:
        with self._elsewhere():
            super()._dollar(word, is_quoted=is_quoted)

    def _process_substitution(self, word: Word) -> None:
        with self._elsewhere():
            super()._process_substitution(word)

    @contextlib.contextmanager
    def _elsewhere(self) -> Iterator[None]:
        """Read commands of another shell."""
        outer, self.nodes = self.nodes, []
        yield
        self.nodes = outer


class _State:
    """What a shell has of the variable."""

    def __init__(self, *, exported: bool = False, has_value: bool | None = None, exports_all: bool = False) -> None:
        self.exported = exported
        self.has_value = has_value
        """None: nothing is known, so that an export is one of a value from elsewhere."""
        self.exports_all = exports_all

    def subshell(self) -> _State:
        return _State(exported=self.exported, has_value=self.has_value, exports_all=self.exports_all)

    @property
    def is_set(self) -> bool:
        return self.exported and self.has_value is not False


def exports_variable(script: str, name: str) -> bool:
    """Return whether a script sets an environment variable for the worker that it starts."""
    if name not in script:
        return False
    reader = _TreeReader(script.replace(MARK, ""))
    root, state = reader.nodes, _State()
    with contextlib.suppress(UnsafePlaceError, RecursionError):
        reader.read()
    return _Search(name, reader.source).passes_on(root, state) or state.is_set


class _Search:
    """Follows the commands of a script in their order."""

    def __init__(self, name: str, source: Callable[[Word], str]) -> None:
        self._name = name
        self._source = source
        self._functions: dict[str, list[_Node]] = {}

    def passes_on(self, nodes: Sequence[_Node], state: _State) -> bool:
        """Return whether a worker is certainly started with the variable; else `state` is that after the commands."""
        is_piped = False
        for node in nodes:
            own = not is_piped and not node.end
            is_piped = node.end == "|"
            here = state if own else state.subshell()
            if node.function:
                self._functions[node.function] = [child for _, children in node.groups for child in children]
                continue
            if any(self.passes_on(group, here.subshell() if forks else here) for forks, group in node.groups):
                return True
            if node.words and self._command(node.words, here):
                return True
        return False

    def _command(self, words: Sequence[Word], state: _State) -> bool:
        """Follow a simple command; return whether it starts a worker with the variable."""
        count = next((at for at, word in enumerate(words) if not word.assigned), len(words))
        prefix, rest = words[:count], [word for word in words[count:] if word.text not in ("command", "builtin")]
        given = [self._fills(word) for word in prefix if word.assigned == self._name and not self._is_itself(word)]
        if not rest:
            for is_filled in given:
                state.has_value = is_filled
                state.exported |= state.exports_all
            return False
        if (body := self._functions.pop(rest[0].text, None)) is not None:
            return self.passes_on(body, state)
        if _starts_worker(rest):
            return given[-1] if given else state.is_set or self._is_argument(rest)
        self._builtin(rest, state)
        return False

    def _fills(self, word: Word) -> bool:
        """Return whether the value of an assignment is a text that is not empty, as far as it is known."""
        value = self._source(word).partition("=")[2]
        return bool(word.text.partition("=")[2]) and word.members is None and not _MAY_BE_EMPTY.fullmatch(value)

    def _is_itself(self, word: Word) -> bool:
        """Return whether an assignment has the value of the variable: it is one that was set elsewhere."""
        return word.text.partition("=")[2] == "$" and word.names == {self._name}

    def _is_argument(self, words: Sequence[Word]) -> bool:
        """Return whether a program that sets variables for another one, or for a container, is given this one."""
        texts = [word.text for word in words]
        if _base(texts[0]) in ("env", "sudo"):
            return any(text.startswith(f"{self._name}=") and text != f"{self._name}=" for text in texts[1:])
        if _base(texts[0]) not in _CONTAINERS:
            return False
        options = [re.sub(r"^(?:--env=|-e=?)(?=.)", "", text) for text in texts]
        option_before = [text in ("-e", "--env") for text in texts]
        return any(
            option.startswith(f"{self._name}=") and option != f"{self._name}=" and (option != text or is_value)
            for option, text, is_value in zip(options[1:], texts[1:], option_before, strict=False)
        )

    def _builtin(self, words: Sequence[Word], state: _State) -> None:
        """Follow a command of the shell that changes variables."""
        program = words[0].text
        options = [word.text for word in words[1:] if word.text[:1] in ("-", "+")]
        letters = "".join(text for text in options if not text.startswith("--"))
        names = [word.text for word in words[1:]]
        if program == "set":
            turned = {"-": True, "+": False}
            for text, following in zip(names, [*names[1:], ""], strict=True):
                if text[:1] in turned and ("a" in text[1:] or (text[1:] == "o" and following == "allexport")):
                    state.exports_all = turned[text[0]]
        elif program == "unset" and self._name in names and "f" not in letters:
            state.exported, state.has_value = False, None
        elif self._name in names and (program in _READING or (program == "printf" and names[0] == "-v")):
            state.has_value = True
        elif program in ("export", "declare", "typeset") and not set(letters) & set("fp"):
            turns_off = "n" in letters if program == "export" else "+" in letters
            if program == "export" or "x" in letters:
                self._export(words[1:], state, exported=not turns_off)

    def _export(self, words: Sequence[Word], state: _State, *, exported: bool) -> None:
        for word in words:
            if self._name in (word.assigned, word.assigns):
                if not self._is_itself(word):
                    state.has_value = self._fills(word)
                state.exported = exported
            elif word.text == self._name and not word.has_expansion:
                state.exported = exported


def _base(program: str) -> str:
    return program.rpartition("/")[2]


def _starts_worker(words: Sequence[Word]) -> bool:
    """Return whether a command may start a worker, as far as its program shows."""
    names = [_base(word.text) for word in words]
    if names[0] == "exec":
        return len(names) > 1
    if names[0] in _CONTAINERS:
        return True
    found = names if names[0] in _WRAPPERS else names[:1]
    has_own_module = any(a == "-m" and b in _OWN_MODULES for a, b in itertools.pairwise(names))
    return any(map(_WORKER.fullmatch, found)) and not has_own_module
