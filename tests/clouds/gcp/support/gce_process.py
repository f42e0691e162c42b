"""The stand-in of Compute Engine as a process of its own, and what a test says to it.

Started by ``with GceProcess(folder) as fake:``; ends, with all machines, when it is told to or when its parent is gone.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs
from gce_fake import GceFake
from gce_records import Times

__all__ = ["GceAdmin", "GceProcess"]


class GceAdmin:
    """The admin port of a stand-in, wherever it runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def state(self) -> Any:
        """Instances, disks, insertions, preemptions, calls (how many, and what was called), struck calls."""
        return self._call("GET", "state")

    def preempt(self, name: str | None = None, *, oldest: int = 0) -> list[str]:
        """Preempt one machine by name, or the oldest running spot machines; returns their names."""
        answer: list[str] = self._call("POST", "preempt", {"name": name, "oldest": oldest})
        return answer

    def stock_out(self, *rules: Mapping[str, str]) -> None:
        """From now on, launches that a rule hits (``zone``, ``machine_type``, ``purchase``, ``code``) find nothing."""
        self._call("POST", "stock-outs", list(rules))

    def fault(self, **fault: Any) -> None:
        """Let a share of the calls fail, as `cloud_wire.Fault` has it; without arguments: none."""
        self._call("POST", "fault", fault)

    def times(self, **times: float) -> None:
        self._call("POST", "times", times)

    def quotas(self, **limits: Mapping[str, float]) -> None:
        """Limits by region (``us-central1``) or ``global``."""
        self._call("POST", "quotas", limits)

    def unreachable(self, *zones: str) -> None:
        """Zones that listings leave out, and say so."""
        self._call("POST", "unreachable-zones", list(zones))

    def advance(self, seconds: float) -> None:
        self._call("POST", "advance", {"seconds": seconds})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())


class GceProcess(GceAdmin):
    """A stand-in in a process of its own.

    Args:
        folder: For the machines.
        times: Other than `Times` has them.
        guest_environment: Variables of every machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        project: str = "stand-in",
        times: Times | None = None,
        guest_environment: Mapping[str, str] | None = None,
        seed: int = 1,
    ) -> None:
        options = {
            "folder": str(folder),
            "project": project,
            "times": attrs.asdict(times or Times()),
            "guest_environment": dict(guest_environment or {}),
            "seed": seed,
        }
        here = Path(__file__).parent
        paths = [str(here), str(here.parents[1] / "support"), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gce_process", json.dumps(options)],
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
            raise RuntimeError("the stand-in of Compute Engine did not start")
        told = json.loads(line)
        self.url: str = told["url"]
        """What `compute_endpoint` is set to."""
        super().__init__(told["admin_url"])

    def __enter__(self) -> GceProcess:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends or a signal comes."""
    parser = argparse.ArgumentParser(prog="gce_process", description=__doc__)
    parser.add_argument("options", help="JSON: folder, project, times, guest_environment, seed")
    options = json.loads(parser.parse_args(arguments).options)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())

    def follow_parent() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=follow_parent, daemon=True).start()
    fake = GceFake(
        Path(options["folder"]),
        project=options.get("project", "stand-in"),
        times=Times(**options.get("times", {})),
        guest_environment=options.get("guest_environment"),
        seed=options.get("seed", 1),
    )
    with fake:
        print(json.dumps({"url": fake.url, "admin_url": fake.admin_url}), flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
