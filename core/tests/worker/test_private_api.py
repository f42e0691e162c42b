"""Private parts of libraries: each exists in this interpreter, is used in one module, and can be missing."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import subprocess
import sys
import weakref
from pathlib import Path

import click
import pytest

import cloud_tasks
from cloud_tasks.cli.options.words_option import WordsOption

SOURCES = Path(cloud_tasks.__file__).parent
PARTS = {
    ("_socket", "socketpair"): "every task process loads `socket` and four more modules",
    ("_signal", "signal"): "restoring signals takes longer, in every task",
    ("_queue", "SimpleQueue"): "the supervisor loads `queue`",
    ("asyncio", "_get_running_loop"): "`asyncio.run` fails in tasks of a worker that was started from an event loop",
    ("asyncio", "_set_running_loop"): "`asyncio.run` fails in tasks of a worker that was started from an event loop",
    ("atexit", "_ncallbacks"): "every task process is ended as if it had exit functions",
    ("atexit", "_clear"): "exit functions of the program run in every task",
    ("atexit", "_run_exitfuncs"): "exit functions of a task do not run",
    ("_thread", "_count"): "every task process is ended as if it had threads",
    ("threading", "_threading_atexits"): "a task that leaves a pool of threads ends at max_runtime",
    ("threading", "_shutdown"): "threads of a task end with its process",
    ("multiprocessing.util", "_exit_function"): "finalizers of multiprocessing do not run in tasks",
    ("multiprocessing.util", "_finalizer_registry"): "finalizers of multiprocessing do not run in tasks",
    ("multiprocessing.process", "_children"): "tasks end the child processes of the program",
    ("logging", "_handlerList"): "handlers of a task are not flushed",
    ("_ctypes", "CFuncPtr"): "a spawned task process takes longer to end",
    ("_ctypes", "dlopen"): "a spawned task process takes longer to end",
    ("_ctypes", "dlsym"): "a spawned task process takes longer to end",
    ("json.encoder", "c_make_encoder"): "events and results are encoded more slowly",
}
OWN = {"_clear", "_count", "_shutdown", "_children"}
"""Names that other classes use as well."""
USERS = {"worker/common/private_api.py", "cli/options/words_option.py", "compact_json.py"}
ATTRIBUTES = {name for _, name in PARTS} - {"socketpair", "signal", "SimpleQueue", "dlopen"} - OWN | {
    "_inheriting",
    "_long_opt",
    "_registered_with_atexit",
    "_option_string_actions",
    "_actions",
}
MISSING = """
import atexit, queue, signal, socket, sys
import ctypes
sys.modules.update(_socket=None, _queue=None, _signal=None, _ctypes=None)
import cloud_tasks.worker.common.private_api as api
from cloud_tasks.worker.common.ipc import Channel, socket_pair
assert (api.sockets, api.set_signal) == (socket, signal.signal)
queued = api.simple_queue()
queued.put(1)
assert queued.get() == 1
near, far = (Channel(end, blocking=True) for end in socket_pair())
near.put("text")
near.flush()
assert far.get() == ["text"]
sys.modules["asyncio"] = sys
api.forget_event_loop()
for name in ("threading", "multiprocessing.util", "multiprocessing.process", "logging", "weakref"):
    sys.modules[name] = sys
for name in ("_ncallbacks", "_clear", "_run_exitfuncs"):
    delattr(atexit, name)
assert api.forget_exit_functions() == [[]]
api.end_threads()
api.run_exit_functions([])
api.exit_interpreter(7)
"""


@pytest.mark.parametrize(("module", "name"), PARTS)
def test_private_part_exists(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name), PARTS[module, name]


def test_weakref_finalizers_register_their_exit_function_once() -> None:
    assert hasattr(weakref.finalize, "_registry")
    assert hasattr(weakref.finalize, "_registered_with_atexit"), "finalizers of a task do not run"


def test_argparse_keeps_the_flags_and_names_of_a_parser() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task-file", dest="tasks")
    assert "--task-file" in parser._option_string_actions, (
        "a program with an option of the worker's name fails to start"
    )
    assert "tasks" in {action.dest for action in parser._actions}, (
        "an option of the worker overwrites the program's value"
    )


def test_click_keeps_the_handlers_of_long_options() -> None:
    command = click.Command("run", params=[WordsOption(["--words"], multiple=True)])
    with click.Context(command) as context:
        parser = command.make_parser(context)
    assert callable(parser._long_opt["--words"].process), "`--instance-types a b` needs a second `--instance-types`"


def test_private_parts_are_used_in_one_module_each() -> None:
    users = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named = {node.attr} if isinstance(node, ast.Attribute) else set()
            named |= {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()
            private = [name for name in imported if name.startswith("_") and name != "__future__"]
            if private or named & ATTRIBUTES:
                users.add(str(path.relative_to(SOURCES)))
    assert users == USERS


def test_worker_runs_on_public_parts_where_private_ones_are_missing() -> None:
    assert subprocess.run([sys.executable, "-c", MISSING]).returncode == 7


def test_words_option_takes_one_word_where_the_parser_has_no_handlers() -> None:
    class Parser:
        def __init__(self) -> None:
            self.added: list[str] = []

        def add_option(self, *, opts: list[str], **_: object) -> None:
            self.added += opts

    parser = Parser()
    option = WordsOption(["--words"], multiple=True)
    option.add_to_parser(parser, click.Context(click.Command("run")))
    assert parser.added == ["--words"]


def test_compact_encoder_encodes_without_the_interpreters_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    from cloud_tasks.compact_json import compact_encoder

    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    assert compact_encoder()({"a": [1, None]}) == '{"a":[1,null]}'
