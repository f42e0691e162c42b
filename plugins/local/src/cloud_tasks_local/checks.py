"""Check of this machine as a provider, for ``doctor`` and before a run: a few calls of the file system."""

from __future__ import annotations

from collections.abc import Iterator

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import CheckContext, Finding, check_folder
from cloud_tasks.plugin.kit import Probe, run_probes
from cloud_tasks_local.settings import LocalSettings

__all__ = ["check_state_folder"]


def check_state_folder(settings: LocalSettings, context: CheckContext) -> Iterator[Finding]:
    """Check that the folder of queues and instances is writable, or can be created."""

    def look() -> str:
        try:
            check_folder(settings.state_dir)
        except ValueError as error:
            raise CloudTasksError(str(error).partition("; ")[0]) from error
        return f"{settings.state_dir} is usable"

    remedy = "choose another folder with --local-state-dir"
    return run_probes([Probe(subject="state folder", look=look, remedy=remedy)])
