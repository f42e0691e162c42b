"""Fake cloud in a separate process, for tests that kill controllers, and its control over the admin port.

The process terminates all instances and exits on request or when its parent exits.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
from fake_cloud import FakeCloud

__all__ = ["FakeCloudProcess", "serve"]


class FakeCloudProcess:
    """Running fake cloud; ends with its context.

    Args:
        program: Module that calls `serve`; its imports are in the same folder or in this one.
        folder: Folder of the instances.
        times: Durations of the fake's actions.
        guest_environment: Variables of every instance.
        seed: Seed of the faults.
        options: Further options of the program.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        times: attrs.AttrsInstance,
        guest_environment: Mapping[str, str] | None = None,
        seed: int = 1,
        **options: str,
    ) -> None:
        settings = {
            "folder": str(folder),
            "times": attrs.asdict(times),
            "guest_environment": dict(guest_environment or {}),
            "seed": seed,
            **options,
        }
        paths = [str(program.parent), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", program.stem, json.dumps(settings)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C of the test must not reach the fake
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"the fake {program.stem} did not start")
        answer = json.loads(line)
        self.url: str = answer["url"]
        """Value of the plugin's endpoint setting."""
        self._admin_url: str = answer["admin_url"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Terminate all instances and the process; may be called again."""
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()

    # -- control by a test --

    def state(self) -> Any:
        """Return resources and past actions, as in the fake's ``state``."""
        return self.ask("GET", "state")

    def stock_out(self, *rules: Mapping[str, str]) -> None:
        """Refuse launches that match a rule as stock-outs; the fields are those of the fake's ``StockOut``."""
        self.ask("POST", "stock-outs", list(rules))

    def fault(self, **fault: Any) -> None:
        """Make a share of the calls fail, as in `fake_server.Fault`; without arguments: none."""
        self.ask("POST", "fault", fault)

    def times(self, **times: float) -> None:
        self.ask("POST", "times", times)

    def quotas(self, **limits: Mapping[str, float]) -> None:
        """Set quota limits by location, in the provider's names: ``quotas(eastus={"cores": 4})``."""
        self.ask("POST", "quotas", limits)

    def advance(self, seconds: float) -> None:
        self.ask("POST", "advance", {"seconds": seconds})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin port; return its response."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._admin_url}/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())


def serve(make: Callable[..., FakeCloud[Any]]) -> int:
    """Serve the fake that ``make`` returns until standard input is closed or a signal arrives; return the exit code.

    Args:
        make: Called with the folder, and with the other options of the command line by name.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("options", help="JSON: what FakeCloudProcess writes")
    options = json.loads(parser.parse_args().options)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())

    def follow_parent() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=follow_parent, daemon=True).start()
    with make(Path(options.pop("folder")), **options) as fake:
        print(json.dumps({"url": fake.url, "admin_url": fake.admin_url}), flush=True)
        ended.wait()
    return 0
