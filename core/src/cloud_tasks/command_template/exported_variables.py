"""Whether a script sets an environment variable for the worker that it starts.

Invariants, each with a test:

1. Nothing is executed. The commands of the script are followed in their order; a condition may be met or not.
2. Any program may start the worker, but for mere tools; a command ``cloud-tasks worker`` that is certainly executed
   does. The variable is set if one of them may get a value that is not empty.
3. What cannot be followed, such as computed names, counts as setting the variable. Of a script that cannot be read to
   its end, what stands before the unreadable part counts.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from cloud_tasks.command_template import program_tables as tables
from cloud_tasks.command_template.launchers import COMPUTED, LAUNCHERS, code_of, file_of, is_tool
from cloud_tasks.command_template.script_tree import Node, read_tree
from cloud_tasks.command_template.words import Word

__all__ = ["exports_variable"]

_MAX_CALLS = 200
_MAX_DEPTH = 8
_MAY_BE_EMPTY = re.compile(r"""["']?(?:\$\{\w+:?-(?:""|'')?\})?["']?""")
_READING = ("read", "mapfile", "readarray")
_SUBCOMMANDS = ("run", "exec", "create", "container")


class _State:
    """What a shell has of the variable."""

    def __init__(self, *, exported: bool = False, has_value: bool | None = None) -> None:
        self.exported = exported
        self.has_value = has_value
        """None: nothing is known, so that an export is one of a value from elsewhere."""
        self.exports_all = False
        self.is_certain = True
        """Whether its commands are certainly executed."""
        self.has_ended = False

    def copy(self, *, is_certain: bool) -> _State:
        copied = _State(exported=self.exported, has_value=self.has_value)
        copied.exports_all, copied.is_certain = self.exports_all, self.is_certain and is_certain
        return copied

    def join(self, branch: _State) -> None:
        """Take over what commands did that may have been executed."""
        if branch is not self and not branch.has_ended:
            self.exported |= branch.exported
            self.exports_all |= branch.exports_all
            self.has_value = max(self.has_value, branch.has_value, key=(False, None, True).index)

    def leave(self, subshell: _State) -> None:
        """Note that a subshell ended: a value that only it had is none."""
        if subshell.has_value is True and self.has_value is None:
            self.has_value = False

    def give(self, *, is_filled: bool) -> None:
        self.has_value = is_filled
        self.exported |= self.exports_all

    @property
    def is_set(self) -> bool:
        return self.exported and self.has_value is not False


def exports_variable(script: str, name: str) -> bool:
    """Return whether a script sets an environment variable for the worker that it starts."""
    search, state = _Search(name), _State()
    root, is_readable = read_tree(script)
    try:
        search.follow(root, state)
    except RecursionError:
        is_readable = False
    if search.certain is not None:
        return search.certain
    at_end = state.is_set and not state.has_ended and (not search.has_started or not is_readable)
    return search.is_passed or at_end


class _Search:
    """Follows the commands of a script in their order."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._functions: dict[str, list[Node]] = {}
        self._calls = 0
        self._depth = 0
        self.certain: bool | None = None
        """Whether the worker that is certainly started has the variable."""
        self.has_started = False
        """Whether there is a program that may start the worker."""
        self.is_passed = False
        """Whether one of them has the variable."""
        self._is_given = False
        """Whether one of them has it that the shell has not."""

    # -- order of the commands ---------------------------------------------------------------------------------------

    def follow(self, nodes: Sequence[Node], state: _State, opening: str = "") -> None:
        """Follow a list of commands, with the branches of the compound command that consists of it."""
        branch, joint, is_run, is_sure = state, "", True, True
        status: bool | None = None
        condition: bool | None = None
        for node in nodes:
            for word in node.keywords:
                if word == "!":
                    continue
                state.join(branch)
                if word in ("then", "do"):
                    condition = None if opening == "until" else status
                else:
                    condition = None if condition is None or word == "case" else not condition
                branch = state if condition else state.copy(is_certain=False)
                branch.has_ended |= condition is False
                joint = ""
            if joint != "|":
                is_run = status is None or joint not in ("&&", "||") or status is (joint == "&&")
                is_sure = status is not None or joint not in ("&&", "||")
            forks, joint = "|" in (joint, node.end) or node.end == "&", node.end
            if not is_run or branch.has_ended or self.certain is not None:
                continue
            here = branch.copy(is_certain=is_sure) if forks or not is_sure else branch
            self._node(node, here)
            if forks:
                branch.leave(here)
            else:
                branch.join(here)
            status = _status(node) if is_sure else None
        state.join(branch)

    def _node(self, node: Node, state: _State) -> None:
        if node.function:
            self._functions[node.function] = [child for _, children in node.groups for child in children]
            return
        for opening, group in node.groups:
            here = state.copy(is_certain=True) if opening == "(" else state
            self.follow(group, here, opening)
            if here is not state:
                state.leave(here)
        if node.is_loop and node.words[0].text == self._name:
            state.give(is_filled=True)
        elif node.words and not node.is_loop:
            self._command(node, state)

    def _command(self, node: Node, state: _State) -> None:
        """Follow a simple command."""
        count = next((at for at, word in enumerate(node.words) if not word.assigned), len(node.words))
        words = [word for word in node.words[count:] if word.text not in ("command", "builtin")]
        given = [self._fills(node, word, state) for word in node.words[:count] if word.assigned == self._name]
        own = state.copy(is_certain=True) if given and words else state
        for is_filled in given:
            own.give(is_filled=is_filled)
            own.exported |= own is not state
        program = words[0].text if words else ""
        if (body := self._functions.get(program)) is not None:
            self._calls += 1
            if self._calls < _MAX_CALLS:
                del self._functions[program]
                self.follow(body, own)
                self._functions.setdefault(program, body)
        elif program == "eval":
            self._evaluate(" ".join(word.text for word in words[1:]), state)
        elif program in (".", "source"):
            # It may start the worker, too.
            self.is_passed |= own.is_set
            state.give(is_filled=True)
        elif program == "exit":
            state.has_ended = True
        elif words:
            self._builtin(node, words, state)
            self._program(node, words, state, own)
            state.has_ended |= program == "exec" and len(words) > 1

    def _read(self, code: str, state: _State) -> None:
        """Follow code in an argument or a here-document."""
        if self._depth < _MAX_DEPTH:
            self._depth += 1
            self.follow(read_tree(code)[0], state)
            self._depth -= 1

    def _evaluate(self, code: str, state: _State) -> None:
        if COMPUTED.fullmatch(code):
            state.give(is_filled=True)
        else:
            self._read(code, state)

    # -- variables ---------------------------------------------------------------------------------------------------

    def _may_name(self, text: str) -> bool:
        """Return whether the text before ``=`` is the name of the variable, as far as it is known."""
        pattern = ".*".join(map(re.escape, COMPUTED.split(text.partition("=")[0])))
        return re.fullmatch(pattern, self._name) is not None

    def _fills(self, node: Node, word: Word, state: _State) -> bool:
        """Return whether the value of an assignment is a text that is not empty, as far as it is known."""
        text, source = word.text.partition("=")[2], node.sources[id(word)].partition("=")[2]
        if text == "$" and word.names == {self._name}:
            return state.has_value is True
        return bool(text) and word.members is None and not _MAY_BE_EMPTY.fullmatch(source)

    def _builtin(self, node: Node, words: Sequence[Word], state: _State) -> None:
        """Follow a command of the shell that changes variables."""
        program, arguments = words[0].text, [word.text for word in words[1:]]
        letters = "".join(text for text in arguments if text[:1] in ("-", "+") and not text.startswith("--"))
        if program == "set":
            turned = {"-": True, "+": False}
            for text, following in itertools.pairwise([*arguments, ""]):
                if text[:1] in turned and ("a" in text[1:] or (text[1:] == "o" and following == "allexport")):
                    state.exports_all = turned[text[0]]
        elif program == "unset" and self._name in arguments and "f" not in letters:
            state.exported, state.has_value = False, None
        elif program in _READING or (program == "printf" and arguments[:1] == ["-v"]):
            names = arguments[1:2] if program == "printf" else arguments
            if any(map(self._may_name, names)):
                state.give(is_filled=True)
        elif program in ("export", "declare", "typeset") and not set(letters) & set("fp"):
            turns_off = "n" in letters if program == "export" else "+" in letters
            if program == "export" or "x" in letters:
                for word in words[1:]:
                    self._export(node, word, state, exported=not turns_off)

    def _export(self, node: Node, word: Word, state: _State, *, exported: bool) -> None:
        if self._name in (word.assigned, word.assigns):
            state.has_value = self._fills(node, word, state)
            state.exported = exported
        elif word.text == self._name:
            state.exported = exported
        elif self._may_name(word.text) and exported:
            state.exported = True
            state.has_value = True if "=" in word.text or word.splits else state.has_value

    # -- programs ----------------------------------------------------------------------------------------------------

    def _program(self, node: Node, words: Sequence[Word], state: _State, own: _State) -> None:
        """Follow a command that starts a program, which is the worker or may start it, with a state of its own."""
        names = [file_of(word) for word in words]
        if is_tool(words):
            return
        is_passed = own.is_set
        launchers = [at for at, name in enumerate(names) if name in LAUNCHERS and names[0] in tables.WRAPPERS]
        for at, following in itertools.pairwise([*launchers, len(words)]):
            is_passed = self._launch(node, words[at:following], is_set=is_passed)
        code = code_of(words, node.input)
        if code:
            inner = _State(exported=is_passed, has_value=is_passed or None)
            inner.is_certain = own.is_certain
            self._read(code, inner)
            return
        self.has_started = True
        self.is_passed |= is_passed
        self._is_given |= is_passed and not state.is_set
        if own.is_certain and ("cloud-tasks", "worker") in itertools.pairwise(names):
            self.certain = is_passed or self._is_given

    def _launch(self, node: Node, words: Sequence[Word], *, is_set: bool) -> bool:
        """Return whether a launcher passes on the variable, or sets it."""
        line = " "
        for before, word in itertools.pairwise(words):
            may_be_several = word.splits or "[@]" in node.sources[id(word)]
            if may_be_several and COMPUTED.fullmatch(word.text) and word is not words[-1]:
                return True
            is_argument = before.text.startswith("-")
            if not (is_argument or word.text in _SUBCOMMANDS or tables.WRAPPED.fullmatch(word.text)):
                break
            name, separator, value = word.text.partition("=")
            line += f"{self._name if '$' in name and self._may_name(name) else name}{separator}{value} "
        drops, keeps, sets = (
            re.search(each.replace("NAME", self._name), line) for each in LAUNCHERS[file_of(words[0])]
        )
        return bool(sets or (is_set and (keeps or not drops)))


def _status(node: Node) -> bool | None:
    """Return whether a command succeeds, for a loop whether there is a value; None if it is not known."""
    texts = [word.text for word in node.words]
    if node.is_loop:
        return False if texts[1:] == ["in"] else None
    known = {"true": True, ":": True, "false": False}.get(texts[0]) if texts else None
    return known if known is None or "!" not in node.keywords else not known
