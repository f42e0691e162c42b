"""The stand-in of Compute Engine as a process of its own: ``with GceProcess(folder) as fake:``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from cloud_process import StandInProcess, serve
from gce_fake import GceFake
from gce_records import Times

__all__ = ["GceProcess"]


class GceProcess(StandInProcess):
    """Its `url` is what `compute_endpoint` is set to.

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
        super().__init__(
            Path(__file__),
            folder,
            times=times or Times(),
            guest_environment=guest_environment,
            seed=seed,
            project=project,
        )

    def preempt(self, name: str | None = None, *, oldest: int = 0) -> list[str]:
        """Preempt one machine by name, or the oldest running spot machines; returns their names."""
        answer: list[str] = self.ask("POST", "preempt", {"name": name, "oldest": oldest})
        return answer

    def unreachable(self, *zones: str) -> None:
        """Zones that listings leave out, and say so."""
        self.ask("POST", "unreachable-zones", list(zones))


if __name__ == "__main__":
    sys.exit(serve(lambda folder, times, **options: GceFake(folder, times=Times(**times), **options)))
