"""Commands, pipelines and here-documents while the reader of the shell's syntax is in them."""

from __future__ import annotations

from cloud_tasks.command_template.fields import Field
from cloud_tasks.command_template.program_tables import DECLARING
from cloud_tasks.command_template.words import Position, Word

__all__ = ["Command", "HereDocument", "Pipeline"]


class Pipeline:
    """A pipeline while it is read."""

    __slots__ = ("file_names", "is_piped", "passes_input", "program", "start")

    def __init__(self, start: Position) -> None:
        self.start = start
        self.file_names: list[Field] = []
        """Fields in it that are only names of files which it reads."""
        self.is_piped = False
        self.passes_input = False
        """Whether its first command prints its standard input."""
        self.program = ""
        """Program in it that reads code from its standard input."""


class Command:
    """A simple command, or what follows a compound command, while it is read."""

    __slots__ = (
        "function",
        "input_code",
        "input_fields",
        "is_compound",
        "is_coprocess",
        "is_loop",
        "program",
        "read_names",
        "start",
        "words",
    )

    def __init__(self, start: Position) -> None:
        self.start = start
        self.words: list[Word] = []
        self.input_fields: list[Field] = []
        """Fields in its standard input: here-string, process substitution."""
        self.input_code = ""
        """Text of its here-string."""
        self.is_compound = False
        self.is_coprocess = False
        """Whether others may write to its standard input."""
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


class HereDocument:
    __slots__ = ("command", "ending", "is_quoted", "pipeline", "strips_tabs")

    def __init__(self, ending: Word, strips_tabs: bool, command: Command, pipeline: Pipeline) -> None:
        self.ending = ending.text
        self.is_quoted = ending.is_quoted
        self.strips_tabs = strips_tabs
        self.command = command
        self.pipeline = pipeline
