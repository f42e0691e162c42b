"""The jobs of a folder: its databases, each with what is shown of it in a list.

Invariant, with a test: a job is reached by the name that the list gives it and by nothing else; no path is ever made of
what a request says.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.errors import NotFoundError, StoreError
from cloud_tasks.model import FINAL_STATUSES, TaskStatus
from cloud_tasks.store import JobSummary, read_job, read_summary
from cloud_tasks_dashboard.reading import Signature, is_job_database, reading, sign
from cloud_tasks_dashboard.watch import Watch

__all__ = ["Jobs"]

_WATCHES = 8
"""Jobs whose history is kept in memory; the one that was not looked at for longest goes first."""


@attrs.frozen(kw_only=True)
class _Entry:
    signature: Signature | None
    summary: JobSummary | None
    problem: str


class Jobs:
    """What there is to look at. May be called from several threads.

    Args:
        folder: Every database in it.
        database: Only this one, wherever it is; None: all of the folder.
    """

    def __init__(self, folder: Path, database: Path | None = None) -> None:
        self.folder = folder
        self._database = database
        self._guard = threading.Lock()
        self._entries: dict[Path, _Entry] = {}
        self._watches: dict[Path, Watch] = {}

    def _paths(self) -> dict[str, Path]:
        """The databases by the names that they are known by."""
        if self._database is not None:
            return {self._database.name: self._database}
        found = sorted(path for path in self.folder.glob("*.db") if not path.name.startswith("."))
        return {path.name: path for path in found if is_job_database(path)}

    def watch(self, name: str) -> Watch:
        """The job of this name, to look at.

        Raises:
            NotFoundError: The list has no such name.
        """
        path = self._paths().get(name)
        if path is None:
            raise NotFoundError(f'there is no job database "{name}" here')
        with self._guard:
            watch = self._watches.pop(path, None) or Watch(path)
            self._watches[path] = watch
            while len(self._watches) > _WATCHES:
                del self._watches[next(iter(self._watches))]
            return watch

    def listing(self) -> Sequence[dict[str, Any]]:
        """Each job with how it stands, the latest first; those that cannot be read, with the reason, last."""
        with self._guard:
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
        signature = sign(path)
        known = self._entries.get(path)
        if known is not None and signature is not None and signature.same(known.signature):
            return known
        try:
            with reading(path, snapshot=True) as connection:
                job = read_job(connection)
                summary = None if job is None else read_summary(connection, job)
        except StoreError as error:
            return _Entry(signature=signature, summary=None, problem=str(error))
        return _Entry(signature=signature, summary=summary, problem="" if summary else "it holds no job yet")


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
