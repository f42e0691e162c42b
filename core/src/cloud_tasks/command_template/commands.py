"""Commands, pipelines and here-documents while the reader of the shell's syntax is in them."""

from __future__ import annotations

from cloud_tasks.command_template.program_tables import DECLARING
from cloud_tasks.command_template.words import Content, Word

__all__ = ["Command", "HereDocument", "Pipeline"]


class Pipeline:
    """A pipeline while it is read."""

    __slots__ = ("is_piped", "program", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        """Number of outputs that were noted before it."""
        self.is_piped = False
        self.program = ""
        """Program in it that reads code from its standard input."""


class Command:
    """A simple command, or what follows a compound command, while it is read."""

    __slots__ = (
        "has_input",
        "input",
        "is_compound",
        "is_loop",
        "program",
        "start",
        "words",
    )

    def __init__(self, start: int) -> None:
        self.start = start
        self.words: list[Word] = []
        self.has_input = False
        """Whether a redirection is its standard input."""
        self.input = Content()
        """What is in its standard input: here-string, process substitution."""
        self.is_compound = False
        self.is_loop = False
        """Whether it is the head of a loop: a variable and its values."""
        self.program = ""
        """Program that reads code from its standard input."""

    @property
    def expects_name(self) -> bool:
        """Whether the next word is the name of the command, or an assignment before it."""
        return not self.is_compound and all(word.assigned for word in self.words)

    @property
    def declares(self) -> bool:
        """Whether its arguments may be assignments."""
        return bool(self.words) and self.words[0].is_plain and self.words[0].text in DECLARING


class HereDocument:
    __slots__ = ("command", "ending", "is_quoted", "pipeline", "strips_tabs")

    def __init__(self, ending: Word, strips_tabs: bool, command: Command, pipeline: Pipeline) -> None:
        self.ending = ending.text
        self.is_quoted = ending.is_quoted
        self.strips_tabs = strips_tabs
        self.command = command
        self.pipeline = pipeline
