"""Connection to the Redis server, and translation of its errors."""

from __future__ import annotations

from contextlib import AbstractContextManager

import redis

from cloud_tasks.plugin import kit
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem
from cloud_tasks_redis.settings import RedisSettings

__all__ = ["connect", "translate_errors"]

MISSING = "NOQUEUE"
"""Start of the scripts' error for a missing queue."""

_SERVER = "check redis.url and that the server runs"
_RULES = (
    ErrorRule(kind=ErrorKind.NOT_FOUND, message=MISSING, hint="run: cloud-tasks load-queue"),
    ErrorRule(kind=ErrorKind.CREDENTIALS, code="AuthenticationError", hint="check redis.username and redis.password"),
    ErrorRule(kind=ErrorKind.PERMANENT, code="AuthorizationError|ResponseError"),
    ErrorRule(kind=ErrorKind.TRANSIENT, code="ConnectionError|TimeoutError", hint=_SERVER),
)


def connect(settings: RedisSettings) -> redis.Redis:
    """Create a thread-safe client, which connects at the first call."""
    identity = {"username": settings.username, "password": settings.password}
    given = {key: value for key, value in identity.items() if value is not None}
    return redis.Redis.from_url(settings.url, socket_timeout=30, socket_connect_timeout=10, **given)


def translate_errors(name: str) -> AbstractContextManager[None]:
    """Translate exceptions of the library, for a queue of this name."""
    return kit.translate_errors(f'queue "{name}" on the Redis server', _problem_of, _RULES)


def _problem_of(error: Exception) -> Problem | None:
    return Problem.of_exception(error) if isinstance(error, redis.exceptions.RedisError) else None
