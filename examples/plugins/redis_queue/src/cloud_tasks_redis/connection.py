"""The connection to the server, and its errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_redis.settings import RedisSettings

__all__ = ["connect", "translated"]

MISSING = "NOQUEUE"
"""How our scripts begin the error that says that there is no such queue."""

_PASSING = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
_FOR_GOOD = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)


def connect(settings: RedisSettings) -> redis.Redis:
    """A thread-safe client; it connects at the first call."""
    identity = {"username": settings.username, "password": settings.password}
    given = {key: value for key, value in identity.items() if value is not None}
    return redis.Redis.from_url(settings.url, socket_timeout=30, socket_connect_timeout=10, **given)


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Lets no exception of the library out: it becomes `NotFoundError` or `ProviderError`."""
    try:
        yield
    except redis.exceptions.ResponseError as error:
        if MISSING in str(error):
            raise NotFoundError(f'there is no queue "{name}"', hint="load the job first") from error
        raise ProviderError(f'the Redis server refused a call on the queue "{name}": {error}') from error
    except redis.exceptions.RedisError as error:
        passing = isinstance(error, _PASSING) and not isinstance(error, _FOR_GOOD)
        raise ProviderError(
            f"the Redis server cannot be used: {error}", transient=passing, hint="check redis.url and that it runs"
        ) from error
