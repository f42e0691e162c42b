"""The Azure Resource Manager fake as a separate process: ``with ArmProcess(folder) as fake:``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from arm_fake import SUBSCRIPTION, ArmFake
from arm_records import Times
from fake_cloud_process import FakeCloudProcess, serve

__all__ = ["ArmProcess"]


class ArmProcess(FakeCloudProcess):
    """The running process; its `url` is the value of `management_endpoint`.

    Args:
        folder: Parent of the VMs' folders.
        times: Durations; default: `Times`.
        guest_environment: Environment variables of every VM.
        storage: As in `ArmFake`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        subscription: str = SUBSCRIPTION,
        times: Times | None = None,
        guest_environment: Mapping[str, str] | None = None,
        seed: int = 1,
        storage: str = "",
    ) -> None:
        super().__init__(
            Path(__file__),
            folder,
            times=times or Times(),
            guest_environment=guest_environment,
            seed=seed,
            subscription=subscription,
            storage=storage,
        )

    def evict(self, name: str | None = None, *, oldest: int = 0) -> list[str]:
        """Evict one VM by name, or the oldest running spot VMs, and return their names."""
        answer: list[str] = self.ask("POST", "evict", {"name": name, "oldest": oldest})
        return answer


if __name__ == "__main__":
    sys.exit(serve(lambda folder, times, **options: ArmFake(folder, times=Times(**times), **options)))
