"""Scopes that refused a launch, and until when they are avoided: for the ``retry_after`` that the plugin gave.

`Fleet` adds them when a launch is refused; `Block.covers` defines which launches a scope covers.

Invariant, with a test: a refusal blocks its scope. Where the provider selected among offers, all of them are blocked.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import attrs

from cloud_tasks.controller.autoscaler.state import Block
from cloud_tasks.errors import CredentialsError, LaunchRefusedError, RefusalScope
from cloud_tasks.model import LaunchRequest

__all__ = ["CREDENTIALS", "RefusedScopes"]

CREDENTIALS = "credentials"
"""Reason of refusals for the credentials."""

_REMEMBERED = timedelta(hours=1)
"""Time for which a zone that refused is taken after one that did not."""


class RefusedScopes:
    """The blocks of one run.

    Args:
        now: Return the time in UTC.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._blocks: list[Block] = []
        self.since: datetime | None = None
        """Time of the first refusal since the last successful launch; None for none."""
        self.credentials_problem = ""
        """Why a listing was refused for the credentials; empty since the last successful one."""

    def launched(self) -> None:
        """Note that a launch succeeded."""
        self.since = None

    def credentials_refused(self, error: CredentialsError) -> None:
        """Note that a listing was refused: nothing can be launched."""
        self.since = self.since or self._now()
        self.credentials_problem = str(error)

    def credentials_accepted(self) -> None:
        """Note that a listing succeeded: launches that were refused for the credentials may succeed now."""
        left = [block for block in self._blocks if block.reason != CREDENTIALS]
        if self.credentials_problem or len(left) < len(self._blocks):
            self._blocks, self.credentials_problem, self.since = left, "", None

    def add(self, request: LaunchRequest, error: LaunchRefusedError) -> list[Block]:
        """Block the scope of a refused launch; return the new blocks."""
        now = self._now()
        self.since = self.since or now
        block = Block(
            scope=error.scope,
            offer=request.offer,
            until=now + error.retry_after,
            reason=error.reason,
            message=str(error),
            needs_action=error.needs_action,
        )
        others = [attrs.evolve(block, scope=RefusalScope.OFFER, offer=other) for other in request.alternatives]
        blocks = [block, *others]
        self._blocks += blocks
        return blocks

    def current(self) -> tuple[Block, ...]:
        """Return the blocks that have not expired."""
        now = self._now()
        return tuple(block for block in self._blocks if block.until > now)

    def recent(self) -> tuple[Block, ...]:
        """Return the blocks of the last hour, expired ones included."""
        since = self._now() - _REMEMBERED
        self._blocks = [block for block in self._blocks if block.until > since]
        return tuple(self._blocks)
