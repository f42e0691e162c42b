"""Calls to the current generation of a queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from cloud_tasks.errors import NotFoundError
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.queue.generations import Generations

__all__ = ["Access"]

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class Access:
    """A boto3 SQS client and the generations of one queue."""

    client: Any
    generations: Generations

    def call(self, action: str, call: Callable[[str], _T]) -> _T:
        """Call with the queue's URL; retry once if that generation was replaced in the meantime."""
        url = self.generations.current()
        try:
            with translate_errors(action):
                return call(url)
        except NotFoundError:
            self.generations.mark_deleted(url)
        with translate_errors(action):
            return call(self.generations.current())
