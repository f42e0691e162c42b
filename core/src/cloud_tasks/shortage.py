"""Shortages of this machine or of the process's limits, described for the user. Standard library only."""

from __future__ import annotations

import contextlib
import errno

__all__ = ["describe_shortage"]


def describe_shortage(error: BaseException) -> str | None:
    """Return the shortage that caused an error, with the limit and the remedy; None for other errors."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EMFILE:
        return f"too many open files{_limit('NOFILE')}; raise the limit with `ulimit -n`"
    if number == errno.ENFILE:
        return "too many open files on this machine; close other programs"
    if number in (errno.ENOSPC, errno.EDQUOT):
        place = f" for {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return f"no space left on the disk{place}; free disk space"
    if number == errno.EAGAIN or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        limit = _limit("NPROC")
        return f"cannot start another thread or process{limit}; raise the limits with `ulimit -u`, `ulimit -v`"
    if number == errno.ENOMEM or isinstance(error, MemoryError):
        return f"out of memory{_limit('AS')}; close other programs, or raise the limit with `ulimit -v`"
    return None


def _limit(name: str) -> str:
    """Return the soft limit of a resource in parentheses; empty where there is none."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, _ = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        if soft != resource.RLIM_INFINITY:
            return f" (limit: {soft:,})"
    return ""
