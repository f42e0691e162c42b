"""Compute Engine fake in a separate process: ``with GceProcess(folder) as fake:``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fake_cloud_process import FakeCloudProcess, serve
from gce_fake import GceFake
from gce_records import Times

__all__ = ["GceProcess"]


class GceProcess(FakeCloudProcess):
    """Running fake process; its `url` is the value of `compute_endpoint`.

    Args:
        folder: Folder of the instances.
        times: Durations; None for the defaults of `Times`.
        options: Those of `FakeCloudProcess` and `GceFake`.
    """

    def __init__(self, folder: Path, *, times: Times | None = None, **options: Any) -> None:
        super().__init__(Path(__file__), folder, times=times or Times(), **options)

    def preempt(self, name: str | None = None, *, oldest: int = 0) -> list[str]:
        """Preempt the instance of this name, or the oldest running spot instances; return the names."""
        answer: list[str] = self.ask("POST", "preempt", {"name": name, "oldest": oldest})
        return answer

    def unreachable(self, *zones: str) -> None:
        """Make listings report these zones as unreachable."""
        self.ask("POST", "unreachable-zones", list(zones))


if __name__ == "__main__":
    sys.exit(serve(lambda folder, times, **options: GceFake(folder, times=Times(**times), **options)))
