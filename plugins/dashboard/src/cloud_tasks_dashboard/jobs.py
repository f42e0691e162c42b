"""The jobs of a folder, with a summary of each for the list.

Invariants, each with a test:

1. A job is accessible only by its name in the list; no path is built from a request.
2. A file that is not a job database is never opened with SQLite.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.errors import NotFoundError, StoreError
from cloud_tasks.model import FINAL_STATUSES, TaskStatus
from cloud_tasks.store import JobSummary, check_content, is_job_database, read_job, read_summary
from cloud_tasks_dashboard.database import CHECKED_TASKS, Signature, open_reader, signature_of
from cloud_tasks_dashboard.watch import Watch

__all__ = ["Jobs"]

_WATCHES = 8
"""Maximum number of jobs whose history is kept in memory; the least recently used is dropped first."""


@attrs.frozen(kw_only=True)
class _Entry:
    signature: Signature | None
    summary: JobSummary | None
    problem: str


class Jobs:
    """The available jobs. Thread-safe.

    Args:
        folder: Folder with the databases.
        database: The only database to show; None for all of the folder.
        also: A database to show as well, wherever it is.
    """

    def __init__(self, folder: Path, database: Path | None = None, *, also: Path | None = None) -> None:
        self.folder = folder
        self._database = database
        self._also = also
        self._lock = threading.Lock()
        self._entries: dict[Path, _Entry] = {}
        self._watches: dict[Path, Watch] = {}

    def _paths(self) -> dict[str, Path]:
        """Return the databases by name."""
        if self._database is not None:
            return {self._database.name: self._database}
        found = sorted(path for path in self.folder.glob("*.db") if not path.name.startswith("."))
        paths = {path.name: path for path in found if is_job_database(path)}
        if self._also is not None and is_job_database(self._also):
            same = paths.get(self._also.name)
            if same is None:
                paths[self._also.name] = self._also
            elif not same.samefile(self._also):
                paths[f"{self._also.name} in {self._also.parent.name}"] = self._also
        return paths

    def watch(self, name: str) -> Watch:
        """Return the watch of the job with this name.

        Raises:
            NotFoundError: No job in the list has this name.
        """
        path = self._paths().get(name)
        if path is None:
            raise NotFoundError(f'job database "{name}" not found')
        with self._lock:
            watch = self._watches.pop(path, None) or Watch(path)
            self._watches[path] = watch
            while len(self._watches) > _WATCHES:
                del self._watches[next(iter(self._watches))]
            return watch

    def listing(self) -> Sequence[dict[str, Any]]:
        """Return a summary of each job, the latest first; unreadable databases follow, with the reason."""
        with self._lock:
            paths = self._paths()
            self._entries = {path: self._entry(path) for path in paths.values()}
            known = [(name, self._entries[path]) for name, path in paths.items()]
        readable = [(name, entry.summary) for name, entry in known if entry.summary is not None]
        readable.sort(key=lambda pair: pair[1].job.created_at, reverse=True)
        return [
            *(_facts(name, summary) for name, summary in readable),
            *({"name": name, "problem": entry.problem} for name, entry in known if entry.summary is None),
        ]

    def _entry(self, path: Path) -> _Entry:
        signature = signature_of(path)
        known = self._entries.get(path)
        if known is not None and signature is not None and signature.same(known.signature):
            return known
        try:
            with open_reader(path, snapshot=True) as connection:
                check_content(connection, path, sample=CHECKED_TASKS)
                job = read_job(connection)
                summary = None if job is None else read_summary(connection, job)
        except StoreError as error:
            return _Entry(signature=signature, summary=None, problem=str(error))
        except Exception as error:
            return _Entry(signature=signature, summary=None, problem=f"cannot be read: {type(error).__name__}")
        return _Entry(signature=signature, summary=summary, problem="" if summary else "no job in this database yet")


def _facts(name: str, summary: JobSummary) -> dict[str, Any]:
    counts = summary.counts
    return {
        "name": name,
        "problem": "",
        "job_id": summary.job.job_id,
        "provider": summary.job.provider,
        "state": summary.job.state.value,
        "created_at": summary.job.created_at.timestamp(),
        "finished_at": None if summary.job.finished_at is None else summary.job.finished_at.timestamp(),
        "total": summary.total,
        "completed": counts[TaskStatus.COMPLETED],
        "failed": sum(counts[status] for status in FINAL_STATUSES - {TaskStatus.COMPLETED}),
        "running": counts[TaskStatus.RUNNING],
    }
