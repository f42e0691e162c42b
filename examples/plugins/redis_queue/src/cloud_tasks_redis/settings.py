"""The ``redis:`` section of the configuration."""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

from cloud_tasks.plugin import setting

__all__ = ["RedisSettings"]


def _is_url_without_password(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must start with redis://, rediss:// or unix://")
    # The URL is passed to every instance, where others may read it.
    if parts.password:
        raise ValueError("must not contain a password; set redis.password instead")


@attrs.frozen(kw_only=True)
class RedisSettings:
    """Server, account and key prefix."""

    url: str = setting(
        help="URL of the server: redis://host:port/database, rediss:// for TLS, unix:// for a socket",
        default="redis://127.0.0.1:6379/0",
        env="REDIS_URL",
        flag="--redis-url",
        worker=True,
        locates=True,
        validator=_is_url_without_password,
    )
    username: str | None = setting(help="User name, for servers with access control lists", default=None, worker=True)
    password: str | None = setting(help="Password", default=None, env="REDIS_PASSWORD", secret=True, worker=True)
    prefix: str = setting(
        help="Prefix of all keys, for a shared server", default="cloud-tasks", worker=True, locates=True
    )
