"""Invariants of the bridge to asyncio, with a real server, real threads and real processes."""

from __future__ import annotations

import asyncio
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin.kit import AsyncBridge

SOON = timedelta(seconds=0.05)
LATE = timedelta(seconds=30)


class Client:
    """A client of an echo server, with one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.lock = asyncio.Lock()

    async def ask(self, text: str) -> str:
        async with self.lock:
            self.writer.write(f"{text}\n".encode())
            return (await self.reader.readline()).decode().strip()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class Echo(socketserver.StreamRequestHandler):
    connections = 0

    def handle(self) -> None:
        type(self).connections += 1
        for line in self.rfile:
            self.wfile.write(line.upper())


@pytest.fixture
def port() -> Iterator[int]:
    Echo.connections = 0
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def bridge(port: int) -> Iterator[AsyncBridge[Client]]:
    async def connect() -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", port))

    bridge = AsyncBridge(connect, disconnect=Client.close, name="echo")
    yield bridge
    bridge.close()


def asyncio_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "echo-asyncio"]


def test_call_returns_the_result_and_raises_the_error(bridge: AsyncBridge[Client]) -> None:
    assert bridge.call(lambda client: client.ask("task"), timeout=LATE) == "TASK"

    async def fail(client: Client) -> None:
        raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        bridge.call(fail, timeout=LATE)


def test_calls_of_many_threads_share_one_client(bridge: AsyncBridge[Client]) -> None:
    answers: list[str] = []

    def work(number: int) -> None:
        for n in range(20):
            text = f"{number}-{n}"
            answers.append(bridge.call(lambda client, text=text: client.ask(text), timeout=LATE))  # type: ignore[misc]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted(f"{number}-{n}" for number in range(8) for n in range(20))
    assert Echo.connections == 1


def test_call_without_an_answer_is_cancelled_in_time(bridge: AsyncBridge[Client]) -> None:
    cancelled = threading.Event()

    async def hang(client: Client) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ProviderError, match=r"echo: no answer within 0\.05 s") as caught:
        bridge.call(hang, timeout=SOON)
    assert caught.value.transient
    assert cancelled.wait(20)
    assert bridge.call(lambda client: client.ask("next"), timeout=LATE) == "NEXT"


def test_call_returns_in_time_while_the_loop_is_blocked(bridge: AsyncBridge[Client]) -> None:
    release = threading.Event()

    async def block(client: Client) -> None:
        release.wait(30)

    with pytest.raises(ProviderError, match="no answer"):
        bridge.call(block, timeout=SOON)
    with pytest.raises(ProviderError, match="no answer"):
        bridge.call(lambda client: asyncio.sleep(0), timeout=SOON)
    release.set()
    assert bridge.call(lambda client: client.ask("next"), timeout=LATE) == "NEXT"


def test_time_limit_of_the_client_is_its_own_error(bridge: AsyncBridge[Client]) -> None:
    async def limited(client: Client) -> None:
        await asyncio.wait_for(asyncio.sleep(1000), 0.01)

    with pytest.raises(TimeoutError):
        bridge.call(limited, timeout=LATE)


def test_failed_connection_is_made_again_at_the_next_call() -> None:
    attempts: list[str] = []

    async def connect() -> str:
        attempts.append("connect")
        if len(attempts) < 3:
            raise ConnectionRefusedError("down")
        return "client"

    async def use(client: str) -> str:
        return client

    bridge = AsyncBridge(connect, name="echo")
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            bridge.call(use, timeout=LATE)
    assert bridge.call(use, timeout=LATE) == bridge.call(use, timeout=LATE) == "client"
    assert len(attempts) == 3
    bridge.close()


def test_hanging_connection_is_cancelled_and_made_again() -> None:
    hanging = [True]

    async def connect() -> str:
        if hanging:
            hanging.pop()
            await asyncio.sleep(1000)
        return "client"

    async def use(client: str) -> str:
        return client

    bridge = AsyncBridge(connect, name="echo")
    with pytest.raises(ProviderError, match="no answer"):
        bridge.call(use, timeout=SOON)
    assert bridge.call(use, timeout=LATE) == "client"
    bridge.close()


def test_close_ends_thread_calls_and_background_tasks(bridge: AsyncBridge[Client]) -> None:
    ended: list[str] = []
    started = threading.Event()

    async def background(name: str) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(name)

    async def start(client: Client) -> asyncio.Task[None]:
        return asyncio.ensure_future(background("background"))

    async def wait(client: Client) -> None:
        started.set()
        await background("call")

    task = bridge.call(start, timeout=LATE)
    errors: list[ProviderError] = []

    def waiting() -> None:
        try:
            bridge.call(wait, timeout=LATE)
        except ProviderError as error:
            errors.append(error)

    thread = threading.Thread(target=waiting)
    thread.start()
    assert started.wait(20)
    bridge.close()
    thread.join(20)
    assert [(error.message, error.transient) for error in errors] == [("echo: closed during a call", True)]
    assert sorted(ended) == ["background", "call"]
    assert task.cancelled()
    assert asyncio_threads() == []
    bridge.close()
    with pytest.raises(RuntimeError, match="echo: closed"):
        bridge.call(wait, timeout=LATE)


def test_close_without_a_call_starts_nothing() -> None:
    async def connect() -> None:
        raise AssertionError

    AsyncBridge(connect, name="echo").close()
    assert asyncio_threads() == []


@pytest.mark.parametrize("kind", ["raises", "hangs", "ignores"])
def test_close_survives_a_client_that_does_not_close(kind: str) -> None:
    async def connect() -> str:
        return "client"

    async def disconnect(client: str) -> None:
        if kind == "raises":
            raise OSError("gone")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            if kind == "ignores":
                await asyncio.sleep(0.05)
            raise

    async def use(client: str) -> str:
        return client

    bridge = AsyncBridge(connect, disconnect=disconnect, name="echo")
    bridge.call(use, timeout=LATE)
    bridge.close(timeout=timedelta(seconds=1))
    for thread in asyncio_threads():
        thread.join(20)
    assert asyncio_threads() == []


def test_call_from_the_loop_is_refused(bridge: AsyncBridge[Client]) -> None:
    async def nested(client: Client) -> None:
        bridge.call(lambda inner: inner.ask("x"), timeout=LATE)

    with pytest.raises(RuntimeError, match="would wait for itself"):
        bridge.call(nested, timeout=LATE)


def test_forked_process_has_a_client_of_its_own(bridge: AsyncBridge[Client]) -> None:
    assert bridge.call(lambda client: client.ask("parent"), timeout=LATE) == "PARENT"
    for _ in range(3):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover
            answer = "failed"
            try:
                answer = bridge.call(lambda client: client.ask("child"), timeout=LATE)
                bridge.close()
                if any(thread is not threading.main_thread() for thread in asyncio_threads()):
                    answer = "thread left"
            finally:
                os.write(writing, answer.encode())
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            assert pipe.read() == "CHILD"
        os.waitpid(child, 0)
        assert bridge.call(lambda client: client.ask("parent"), timeout=LATE) == "PARENT"
    deadline = time.monotonic() + 20
    while Echo.connections < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Echo.connections == 4


def test_fork_while_a_call_runs_does_not_block_the_child(bridge: AsyncBridge[Client]) -> None:
    entered, release = threading.Event(), threading.Event()

    async def block(client: Client) -> str:
        entered.set()
        release.wait(30)
        return "done"

    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(bridge.call(block, timeout=LATE)))
    thread.start()
    assert entered.wait(20)
    child = os.fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            code = 0 if bridge.call(lambda client: client.ask("child"), timeout=LATE) == "CHILD" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    release.set()
    thread.join(20)
    assert answers == ["done"]


def test_program_ends_without_close(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "from datetime import timedelta\n"
        "from cloud_tasks.plugin.kit import AsyncBridge\n"
        "async def connect(): return 'client'\n"
        "async def use(client): asyncio.ensure_future(asyncio.sleep(1000)); return client\n"
        "print(AsyncBridge(connect, name='x').call(use, timeout=timedelta(seconds=20)))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", str(program)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "client\n")
