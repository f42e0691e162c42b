"""Scopes that refused a launch, and until when they are avoided: for the ``retry_after`` that the plugin gave.

`Fleet` adds them when a launch is refused; `Block.covers` defines which launches a scope covers.

Invariant, with a test: a refusal blocks its scope. Where the provider selected among offers, all of them are blocked.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from cloud_tasks.controller.autoscaler.state import Block
from cloud_tasks.errors import LaunchRefusedError, RefusalScope
from cloud_tasks.model import LaunchRequest

__all__ = ["RefusedScopes"]

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

    def add(self, request: LaunchRequest, error: LaunchRefusedError) -> list[Block]:
        """Block the scope of a refused launch; return the new blocks."""
        until = self._now() + error.retry_after
        blocks = [Block(scope=error.scope, offer=request.offer, until=until, reason=error.reason)]
        blocks += [
            Block(scope=RefusalScope.OFFER, offer=other, until=until, reason=error.reason)
            for other in request.alternatives
        ]
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
