"""The ``gcp:`` section of the configuration."""

from __future__ import annotations

import attrs

from cloud_tasks.plugin import setting

__all__ = ["GcpSettings"]


@attrs.frozen(kw_only=True)
class GcpSettings:
    """How to reach Google Cloud, and as whom."""

    project_id: str | None = setting(
        help="The project that is charged", default=None, env="GOOGLE_CLOUD_PROJECT", flag="--project-id", worker=True
    )
    credentials_file: str | None = setting(
        help="JSON key file of an account; the environment's own credentials when not given",
        default=None,
        env="GOOGLE_APPLICATION_CREDENTIALS",
        flag="--credentials-file",
    )
    service_account: str | None = setting(
        help="E-mail address of the service account that instances act as", default=None, flag="--service-account"
    )
