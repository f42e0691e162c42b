"""The stand-in of Azure Resource Manager as a process of its own: ``with ArmProcess(folder) as fake:``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from arm_fake import SUBSCRIPTION, ArmFake
from arm_records import Times
from cloud_process import StandInProcess, serve

__all__ = ["ArmProcess"]


class ArmProcess(StandInProcess):
    """Its `url` is what `management_endpoint` is set to.

    Args:
        folder: For the machines.
        times: Other than `Times` has them.
        guest_environment: Variables of every machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        subscription: str = SUBSCRIPTION,
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
            subscription=subscription,
        )

    def evict(self, name: str | None = None, *, oldest: int = 0) -> list[str]:
        """Evict one machine by name, or the oldest running spot machines; returns their names."""
        answer: list[str] = self.ask("POST", "evict", {"name": name, "oldest": oldest})
        return answer


if __name__ == "__main__":
    sys.exit(serve(lambda folder, times, **options: ArmFake(folder, times=Times(**times), **options)))
