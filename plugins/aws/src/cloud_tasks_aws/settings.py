"""The ``aws:`` section of the configuration."""

from __future__ import annotations

import attrs

from cloud_tasks.plugin import setting

__all__ = ["AwsSettings"]


@attrs.frozen(kw_only=True)
class AwsSettings:
    """How to reach Amazon Web Services, and as whom."""

    access_key: str | None = setting(
        help="Access key id; the environment's own credentials when not given",
        default=None,
        env="AWS_ACCESS_KEY_ID",
        flag="--access-key",
    )
    secret_key: str | None = setting(
        help="Secret access key", default=None, env="AWS_SECRET_ACCESS_KEY", flag="--secret-key", secret=True
    )
