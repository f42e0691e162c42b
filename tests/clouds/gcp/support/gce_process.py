"""Compute Engine fake in a separate process: ``with GceProcess(folder) as fake:``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from fake_cloud_process import FakeCloudProcess, serve
from gce_fake import GceFake
from gce_records import Times

__all__ = ["GceProcess"]


class GceProcess(FakeCloudProcess):
    """Running fake process; its `url` is the value of `compute_endpoint`.

    Args:
        folder: Folder of the instances.
        times: Durations; None for the defaults of `Times`.
        guest_environment: Variables of every instance.
    """

    def __init__(
        self,
        folder: Path,
        *,
        project: str = "fake-project",
        times: Times | None = None,
        guest_environment: Mapping[str, str] | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__(
            Path(__file__),
            folder,
            times=times or Times(),
            guest_environment=guest_environment,
            seed=seed,
            project=project,
        )

    def preempt(self, name: str | None = None, *, oldest: int = 0) -> list[str]:
        """Preempt the instance of this name, or the oldest running spot instances; return the names."""
        answer: list[str] = self.ask("POST", "preempt", {"name": name, "oldest": oldest})
        return answer

    def unreachable(self, *zones: str) -> None:
        """Make listings report these zones as unreachable."""
        self.ask("POST", "unreachable-zones", list(zones))


if __name__ == "__main__":
    sys.exit(serve(lambda folder, times, **options: GceFake(folder, times=Times(**times), **options)))
