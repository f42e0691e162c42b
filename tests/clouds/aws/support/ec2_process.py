"""Runs the overlay as a separate process and controls it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from missing import missing

__all__ = ["OverlayProcess", "overlay_process", "require_moto"]

_PROGRAM = Path(__file__).with_name("ec2_overlay.py")
_TIMEOUT = 60.0


def require_moto() -> None:
    """Skip the test if moto is missing; fail in CI."""
    if importlib.util.find_spec("moto") is None:
        missing("moto is not installed", how="pip install 'moto[server]'")


class OverlayProcess:
    """A running overlay.

    Args:
        url: Its URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def state(self) -> Any:
        """Return instances, launch templates, interruptions and faults."""
        with urllib.request.urlopen(f"{self.url}/_admin/state", timeout=20) as response:
            return json.load(response)

    def control(self, verb: str, **arguments: object) -> None:
        """Call a verb of the overlay's `Admin`."""
        body = json.dumps(arguments).encode()
        request = urllib.request.Request(f"{self.url}/_admin/{verb}", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=20):
            pass

    def alive(self) -> list[str]:
        """Return the ids of instances that are not terminated."""
        return [each["instance_id"] for each in self.state()["instances"] if each["state"] != "terminated"]


@contextmanager
def overlay_process(folder: Path, arguments: Sequence[str] = ()) -> Iterator[OverlayProcess]:
    """Run an overlay; it ends with its instances when the context exits."""
    require_moto()
    command = [sys.executable, str(_PROGRAM), "--folder", str(folder / "machines"), *arguments]
    shared = str(Path(__file__).parents[2] / "support")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([shared, os.environ.get("PYTHONPATH", "")])}
    with (folder / "overlay.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        )
    try:
        assert process.stdout is not None
        lines = (line.strip() for line in process.stdout)
        url = next((line for line in lines if line.startswith("http://")), "")
        assert url, (folder / "overlay.log").read_text()
        yield OverlayProcess(url)
    finally:
        process.terminate()
        process.wait(_TIMEOUT)
        if process.stdout is not None:
            process.stdout.close()
