"""Commands of a script in their order, with the compound commands, functions and here-documents around them.

Invariant, with a test: text that is no command of the script's own shell is in no tree: arguments, comments,
substitutions. A here-document is the input of its command.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence

from cloud_tasks.command_template.commands import Command, HereDocument
from cloud_tasks.command_template.fields import MARK
from cloud_tasks.command_template.shell_syntax import ShellReader
from cloud_tasks.command_template.words import Facts, UnsafePlaceError, Word

__all__ = ["Node", "read_tree"]

_OPERATOR = re.compile(r"(?:&&|\|\||\|&?|&)\Z")
_NO_PARAMETERS = re.compile(r"[ \t]*\([ \t]*\)")
_BRANCHES = ("then", "do", "else", "elif", "!")


class Node:
    """A command with the compound commands that it consists of."""

    __slots__ = ("end", "function", "groups", "input", "is_loop", "keywords", "sources", "words")

    def __init__(self, *keywords: str) -> None:
        self.keywords = [*keywords]
        """Reserved words before it: those of branches, ``!``; ``case`` where a clause begins."""
        self.words: Sequence[Word] = ()
        self.sources: dict[int, str] = {}
        """Text of each word with its quotes, by its `id`."""
        self.groups: list[tuple[str, list[Node]]] = []
        """Compound commands, and the word or parenthesis that begins each."""
        self.function = ""
        """Function whose definition it is."""
        self.is_loop = False
        """Whether it is the head of a loop: a variable and its values."""
        self.input = ""
        """Its here-document."""
        self.end = ""
        """Operator after it, which is no mere end: ``|``, ``&``, ``&&``, ``||``."""


def read_tree(script: str) -> tuple[list[Node], bool]:
    """Return the commands of a script, and whether all of it could be read."""
    reader = _TreeReader(script.replace(MARK, ""))
    root = reader.nodes
    try:
        reader.read()
    except (UnsafePlaceError, RecursionError):
        return root, False
    return root, True


class _TreeReader(ShellReader):
    """Reads the commands of a script into a tree."""

    def __init__(self, script: str) -> None:
        super().__init__(script, (), Facts(), is_bash=True)
        self.nodes: list[Node] = []
        self._opening = ""
        self._made: dict[int, tuple[Command, Node]] = {}
        self._sources: dict[int, tuple[Word, str]] = {}

    def _node(self, command: Command) -> Node:
        """Return the node of a command, which is in the tree from its beginning on."""
        if id(command) not in self._made:
            self._made[id(command)] = (command, Node())
            self.nodes.append(self._made[id(command)][1])
        return self._made[id(command)][1]

    def _examine(self, command: Command) -> None:
        if not command.words and id(command) not in self._made:
            return
        node = self._node(command)
        node.words, node.is_loop = tuple(command.words), command.is_loop
        node.sources = {id(word): self._sources[id(word)][1] for word in node.words}
        operator = _OPERATOR.search(self._text, max(self._at - 2, 0), self._at)
        node.end = operator[0].replace("|&", "|") if operator else ""

    def _commands(self, closing: str) -> str:
        if closing == "esac":
            self.nodes.append(Node("case"))
        return super()._commands(closing)

    def _compound(self, command: Command, read: Callable[[], None]) -> None:
        node, outer, children = self._node(command), self.nodes, list[Node]()
        node.groups.append((self._opening, children))
        self.nodes = children
        super()._compound(command, read)
        self.nodes = outer

    def _parenthesis(self, command: Command) -> None:
        name, self._opening = command.words[0].text if command.words else "", "("
        super()._parenthesis(command)
        if name and not command.words:
            self._node(command).function = name

    def _reserved(self, word: str, command: Command) -> bool:
        self._opening = word
        if word in _BRANCHES:
            self._node(command).keywords.append(word)
        is_reserved = super()._reserved(word, command)
        if word == "function":
            self._node(command).function = next(reversed(self._facts.functions))
            self._skip(_NO_PARAMETERS)
        return is_reserved

    def _here_document(self, document: HereDocument) -> None:
        start = self._at
        super()._here_document(document)
        lines = self._text[start : self._at].splitlines(keepends=True)
        if lines and lines[-1].strip() == document.ending:
            lines.pop()
        self._node(document.command).input = "".join(lines)

    def _word(self, *, one_word: bool = False, may_assign: bool = False) -> Word:
        start = self._at
        word = super()._word(one_word=one_word, may_assign=may_assign)
        self._sources[id(word)] = (word, self._text[start : self._at])
        return word

    def _code(self, text: str, arguments: Sequence[Word] | None) -> None:
        """Skip code in backquotes: another shell runs it."""

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
        try:
            yield
        finally:
            self.nodes = outer
