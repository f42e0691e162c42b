"""The connection to the server, and translation of its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_redis.settings import RedisSettings

__all__ = ["connect", "translated"]

MISSING = "NOQUEUE"
"""Prefix of the scripts' error for a queue that does not exist."""

_TRANSIENT = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
_PERMANENT = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)


def connect(settings: RedisSettings) -> redis.Redis:
    """Return a thread-safe client, which connects on its first call."""
    identity = {"username": settings.username, "password": settings.password}
    given = {key: value for key, value in identity.items() if value is not None}
    return redis.Redis.from_url(settings.url, socket_timeout=30, socket_connect_timeout=10, **given)


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Translate exceptions of the library into `NotFoundError` and `ProviderError`."""
    try:
        yield
    except redis.exceptions.ResponseError as error:
        if MISSING in str(error):
            raise NotFoundError(f'there is no queue "{name}"', hint="load the job first") from error
        raise ProviderError(f'the Redis server refused a call on the queue "{name}": {error}') from error
    except redis.exceptions.RedisError as error:
        transient = isinstance(error, _TRANSIENT) and not isinstance(error, _PERMANENT)
        raise ProviderError(
            f"the Redis server cannot be used: {error}", transient=transient, hint="check redis.url and that it runs"
        ) from error
