"""Task source: a YAML file with a list of tasks, built one task at a time from the parser's events.

Tags cannot run code. Values are converted to those of JSON, as a queue would. Memory: one task, and every anchor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from cloud_tasks.builtin.sources.task_from_entry import task_from_entry
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.taskfile import open_binary, place_of

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


class YamlFileSource:
    """Tasks of a YAML file or URL with one document, which is a list or empty.

    Raises (while iterating):
        InputError: A task is invalid; the message has file, line, number of the task and reason.
    """

    def __init__(self, location: str, base_dir: Path) -> None:
        self.where = place_of(location, base_dir)

    def __iter__(self) -> Iterator[Task]:
        with open_binary(self.where) as stream:
            loader = _Loader(stream)
            number = 0
            try:
                for number, node in enumerate(self._nodes(loader), start=1):
                    yield self._task(loader, node, number)
            except yaml.MarkedYAMLError as error:
                mark = error.problem_mark or error.context_mark
                reason = " ".join(str(part) for part in (error.context, error.problem) if part)
                self._refuse(f"after task {number}: not valid YAML: {reason}", mark)
            except yaml.YAMLError as error:
                self._refuse(f"after task {number}: not valid YAML: {' '.join(str(error).split())}", None)
            finally:
                loader.dispose()

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
            loader.get_event()
            while not loader.check_event(yaml.SequenceEndEvent):
                yield loader.compose_node(None, None)
            loader.get_event()
        elif not (loader.check_event(yaml.ScalarEvent) and start.value == ""):
            found = "an object" if loader.check_event(yaml.MappingStartEvent) else "a single value"
            self._refuse(
                f"expected a list of tasks, found {found}", start.start_mark, hint="start each task with a dash"
            )
        else:
            loader.get_event()
        loader.get_event()
        if not loader.check_event(yaml.StreamEndEvent):
            self._refuse("second document", loader.peek_event().start_mark, hint="keep one list in one file")

    def _task(self, loader: Any, node: yaml.Node, number: int) -> Task:
        def where() -> str:
            return f"{self.where}:{node.start_mark.line + 1}"

        try:
            entry = loader.construct_document(node)
        except (ValueError, RecursionError) as error:
            raise InputError(f"task {number}: {error}", where=where()) from error
        task = task_from_entry(entry, number, where)
        try:
            data = json.loads(json.dumps(task.data))
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f'task {number} ("{task.task_id}"): cannot be encoded as JSON: {error}',
                where=where(),
                hint="put dates in quotes",
            ) from error
        return Task(task_id=task.task_id, data=data)

    def _refuse(self, reason: str, mark: Any, *, hint: str = "") -> NoReturn:
        where = self.where if mark is None else f"{self.where}:{mark.line + 1}"
        raise InputError(reason, where=where, hint=hint)
