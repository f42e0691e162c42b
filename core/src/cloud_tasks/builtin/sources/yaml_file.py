"""Task source: a YAML file with a list of tasks, built one task at a time from the parser's events.

Tags cannot run code. A key is the text that was written; other values are those of YAML 1.1. Memory: one task, and
every anchor.

Invariants, each with a test:

1. A small file does not become a large value: the depth of a task and the content that its aliases repeat are bounded.
2. A key given twice in one mapping is refused with its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from cloud_tasks.builtin.sources.task_from_entry import task_from_entry
from cloud_tasks.builtin.sources.yaml_checks import NodeError, TaskNodes
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.sanitize import MAX_DEPTH
from cloud_tasks.taskfile import MAX_TASK_LENGTH, display_name, not_utf8, open_binary, place_of

__all__ = ["YamlFileSource"]

if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs forget to export it

    class _Loader(CParser, Composer, SafeConstructor, Resolver):
        """Loader with events of libyaml, composed into one node at a time."""

        def __init__(self, stream: Any) -> None:
            CParser.__init__(self, stream)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)
else:
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class _Loader(Reader, Scanner, Parser, Composer, SafeConstructor, Resolver):  # type: ignore[no-redef]
        """Loader in pure Python, about ten times slower."""

        def __init__(self, stream: Any) -> None:
            Reader.__init__(self, stream)
            Scanner.__init__(self)
            Parser.__init__(self)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)


class _Composer:
    """Composition of nodes with a bound on their depth, which its recursion would otherwise find."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        try:
            if self.depth > MAX_DEPTH:
                mark = self.peek_event().start_mark  # type: ignore[attr-defined]
                raise NodeError(f"nested deeper than {MAX_DEPTH} levels", mark)
            return super().compose_node(parent, index)  # type: ignore[misc]
        finally:
            self.depth -= 1


class _BoundedLoader(_Composer, _Loader):
    pass


class _BoundedStream:
    """The stream of a file with a bound on what is read for one task."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.number_read = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.number_read += len(data)
        if self.number_read > MAX_TASK_LENGTH:
            raise NodeError(f"a task is longer than {MAX_TASK_LENGTH >> 20} MB", None)
        return data


class YamlFileSource:
    """Tasks of a YAML file or URL with one document, which is a list, ``tasks:`` with a list, or empty.

    Raises (while iterating):
        InputError: A task is invalid; the message has file, line, number of the task and reason.
    """

    def __init__(self, location: str, base_dir: Path) -> None:
        self._place = place_of(location, base_dir)
        self.where = display_name(self._place)
        self._line = 0

    def __iter__(self) -> Iterator[Task]:
        with open_binary(self._place) as stream:
            number = 0
            loader = None
            try:
                # The loader reads the first bytes.
                bounded = _BoundedStream(stream)
                loader = _BoundedLoader(bounded)
                nodes = TaskNodes()
                for number, node in enumerate(self._nodes(loader), start=1):
                    bounded.number_read = 0
                    self._line = node.start_mark.line + 1
                    yield self._task(loader, nodes, node, number)
            except NodeError as error:
                self._refuse(f"after task {number}: {error.reason}", error.mark)
            except yaml.MarkedYAMLError as error:
                mark = error.problem_mark or error.context_mark
                reason = " ".join(str(part) for part in (error.context, error.problem) if part)
                self._refuse(f"after task {number}: not valid YAML: {reason}", mark)
            except yaml.YAMLError as error:
                reason = " ".join(str(error).split())
                hint = str(not_utf8(b"", "", "").hint) if "octet" in reason or "decode" in reason else ""
                self._refuse(f"after task {number}: not valid YAML: {reason}", None, hint=hint)
            except RecursionError:
                self._refuse(f"after task {number}: nested deeper than {MAX_DEPTH} levels", None)
            finally:
                if loader is not None:
                    loader.dispose()

    def place(self) -> str:
        """Return file and line of the task that was yielded last."""
        return f"{self.where}:{self._line}"

    def expected_length(self) -> int | None:
        return None

    def _nodes(self, loader: Any) -> Iterator[yaml.Node]:
        """Yield the entries of the list."""
        loader.get_event()
        if loader.check_event(yaml.StreamEndEvent):
            return
        loader.get_event()
        start = loader.peek_event()
        if loader.check_event(yaml.SequenceStartEvent):
            yield from self._entries(loader)
        elif loader.check_event(yaml.MappingStartEvent):
            yield from self._entries_of_tasks(loader)
        elif loader.check_event(yaml.ScalarEvent) and start.value == "":
            loader.get_event()
        else:
            hint = "start each task with a dash"
            self._refuse("expected a list of tasks, found a single value", start.start_mark, hint=hint)
        loader.get_event()
        if not loader.check_event(yaml.StreamEndEvent):
            self._refuse("second document", loader.peek_event().start_mark, hint="keep one list in one file")

    def _entries_of_tasks(self, loader: Any) -> Iterator[yaml.Node]:
        """Yield the entries of the list that is the value of ``tasks``, the only key."""
        start = loader.get_event()
        key = loader.compose_node(None, None) if not loader.check_event(yaml.MappingEndEvent) else None
        if getattr(key, "value", None) != "tasks" or not loader.check_event(yaml.SequenceStartEvent):
            hint = 'start each task with a dash, or write "tasks:" before the list'
            self._refuse("expected a list of tasks, found an object", start.start_mark, hint=hint)
        yield from self._entries(loader)
        if not loader.check_event(yaml.MappingEndEvent):
            mark = loader.peek_event().start_mark
            self._refuse('unexpected key after "tasks"', mark, hint='keep the key "tasks" only')
        loader.get_event()

    def _entries(self, loader: Any) -> Iterator[yaml.Node]:
        loader.get_event()
        while not loader.check_event(yaml.SequenceEndEvent):
            yield loader.compose_node(None, None)
        loader.get_event()

    def _task(self, loader: Any, nodes: TaskNodes, node: yaml.Node, number: int) -> Task:
        try:
            nodes.check(node)
        except NodeError as error:
            self._refuse(f"task {number}: {error.reason}", error.mark or node.start_mark)
        try:
            entry = loader.construct_document(node)
        except (ValueError, OverflowError, RecursionError, MemoryError) as error:
            self._refuse(f"task {number}: {' '.join(str(error).split()) or type(error).__name__}", node.start_mark)
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            # PyYAML raises them for a scalar that its tag does not fit, such as `!!float abc`.
            self._refuse(f"task {number}: a value does not fit its tag ({error})", node.start_mark)
        return task_from_entry(entry, number, self.place, hint="put it in quotes")

    def _refuse(self, reason: str, mark: Any, *, hint: str = "") -> NoReturn:
        where = self.where if mark is None else f"{self.where}:{mark.line + 1}"
        raise InputError(reason, where=where, hint=hint)
