"""A stand-in as a process of its own, for tests that kill controllers, and what a test says to it over its admin port.

The process ends, with all machines, when it is told to or when its parent is gone.
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
from cloud_stand_in import StandIn

__all__ = ["StandInProcess", "serve"]


class StandInProcess:
    """A stand-in, started; ends with its context.

    Args:
        program: The module that calls `serve`; what it imports is beside it, or here.
        folder: For the machines.
        times: How long things take there.
        guest_environment: Variables of every machine.
        seed: Of the faults.
        options: Whatever else the program takes.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        times: attrs.AttrsInstance,
        guest_environment: Mapping[str, str] | None,
        seed: int,
        **options: str,
    ) -> None:
        told = {
            "folder": str(folder),
            "times": attrs.asdict(times),
            "guest_environment": dict(guest_environment or {}),
            "seed": seed,
            **options,
        }
        paths = [str(program.parent), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", program.stem, json.dumps(told)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C of the test is not for the cloud
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"the stand-in {program.stem} did not start")
        answer = json.loads(line)
        self.url: str = answer["url"]
        """What the plugin's endpoint is set to."""
        self._admin_url: str = answer["admin_url"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it and all its machines; may be called again."""
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

    # -- what a test does to it --

    def state(self) -> Any:
        """What there is and what was done, as the stand-in's ``state`` has it."""
        return self.ask("GET", "state")

    def stock_out(self, *rules: Mapping[str, str]) -> None:
        """From now on, launches that a rule hits find nothing; the fields are those of the stand-in's ``StockOut``."""
        self.ask("POST", "stock-outs", list(rules))

    def fault(self, **fault: Any) -> None:
        """Let a share of the calls fail, as `cloud_wire.Fault` has it; without arguments: none."""
        self.ask("POST", "fault", fault)

    def times(self, **times: float) -> None:
        self.ask("POST", "times", times)

    def quotas(self, **limits: Mapping[str, float]) -> None:
        """Limits by place, as the provider names places: ``quotas(eastus={"cores": 4})``."""
        self.ask("POST", "quotas", limits)

    def advance(self, seconds: float) -> None:
        self.ask("POST", "advance", {"seconds": seconds})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin port; returns its answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._admin_url}/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())


def serve(make: Callable[..., StandIn[Any]]) -> int:
    """The other side: serve what ``make`` makes, until standard input ends or a signal comes.

    Args:
        make: Called with the folder, and by name with the other options of the command line.

    Returns the exit code.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("options", help="JSON: what StandInProcess writes")
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
