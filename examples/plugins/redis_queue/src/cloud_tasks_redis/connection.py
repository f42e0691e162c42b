"""Connection to the Redis server, and translation of its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_redis.settings import RedisSettings

__all__ = ["connect", "translate_errors"]

MISSING = "NOQUEUE"
"""Start of the scripts' error for a missing queue."""

_TRANSIENT = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
_PERMANENT = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)


def connect(settings: RedisSettings) -> redis.Redis:
    """Create a thread-safe client, which connects at the first call."""
    identity = {"username": settings.username, "password": settings.password}
    given = {key: value for key, value in identity.items() if value is not None}
    return redis.Redis.from_url(settings.url, socket_timeout=30, socket_connect_timeout=10, **given)


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Translate exceptions of the library into `NotFoundError` or `ProviderError`."""
    try:
        yield
    except redis.exceptions.ResponseError as error:
        if MISSING in str(error):
            raise NotFoundError(f'queue "{name}" not found', hint="run: cloud-tasks load-queue") from error
        raise ProviderError(f'the Redis server refused a call on the queue "{name}": {error}') from error
    except redis.exceptions.RedisError as error:
        transient = isinstance(error, _TRANSIENT) and not isinstance(error, _PERMANENT)
        raise ProviderError(
            f"cannot use the Redis server: {error}",
            transient=transient,
            hint="check redis.url and that the server runs",
        ) from error
