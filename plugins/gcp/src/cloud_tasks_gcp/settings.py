"""The ``gcp:`` section of the configuration."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from cloud_tasks.plugin import setting

__all__ = ["METADATA_URL", "GcpSettings"]

METADATA_URL = "http://metadata.google.internal"


def _not_negative(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if value < 0:
        raise ValueError(f"must be 0 or more, got {value:g}")


def _name_start(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not re.fullmatch(r"(?!goog)[A-Za-z][A-Za-z0-9_.~+-]{0,99}", value):
        raise ValueError(
            'must start with a letter, not with "goog", and have at most 100 characters of A-Z, a-z, 0-9 and -_.~+, '
            f'got "{value}"'
        )


def _retention(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 1 / 144 <= value <= 31:
        raise ValueError(f"must be between 0.007 (10 minutes) and 31 days, got {value:g}")


@attrs.frozen(kw_only=True)
class GcpSettings:
    """Google Cloud project, credentials, network, queue and price settings."""

    project_id: str | None = setting(
        help="Google Cloud project that is billed",
        default=None,
        env="GOOGLE_CLOUD_PROJECT",
        flag="--project-id",
        worker=True,
        asked=True,
    )
    credentials_file: Path | None = setting(
        help="JSON credentials file (default: application default credentials)",
        default=None,
        env="GOOGLE_APPLICATION_CREDENTIALS",
        flag="--credentials-file",
    )
    service_account: str | None = setting(
        help="E-mail address of the service account of the instances (default: the project's default)",
        default=None,
        flag="--service-account",
        asked=True,
    )
    scopes: tuple[str, ...] = setting(
        help="OAuth access scopes of the instances' service account; its roles limit access",
        default=("https://www.googleapis.com/auth/cloud-platform",),
    )
    network: str | None = setting(
        help="VPC network of the instances, name or path (default: the network default, or that of subnetwork)",
        default=None,
    )
    subnetwork: str | None = setting(help="Subnetwork of the instances in the job's region, name or path", default=None)
    external_address: bool = setting(
        help="Assign external IP addresses; instances without one need Cloud NAT and Private Google Access",
        default=True,
    )
    tags: tuple[str, ...] = setting(help="Network tags of the instances", default=())
    shielded_secure_boot: bool | None = setting(
        help="Enable Secure Boot of Shielded VM (default: Google's)", default=None
    )
    shielded_vtpm: bool | None = setting(help="Enable the vTPM of Shielded VM (default: Google's)", default=None)
    shielded_integrity_monitoring: bool | None = setting(
        help="Enable integrity monitoring of Shielded VM (default: Google's)", default=None
    )
    compute_endpoint: str = setting(help="URL of the Compute Engine API (default: Google's)", default="", locates=True)
    impersonate_service_account: str | None = setting(
        help="E-mail address of the service account that the controller impersonates",
        default=None,
        env="CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
    )
    pubsub_endpoint: str = setting(
        help="URL of the Pub/Sub API, or host:port of the Pub/Sub emulator (default: Google's)",
        default="",
        env="PUBSUB_EMULATOR_HOST",
        worker=True,
        locates=True,
    )
    storage_endpoint: str = setting(
        help="URL of the Cloud Storage API, for run.staging (default: Google's)",
        default="",
        env="STORAGE_EMULATOR_HOST",
    )
    metadata_url: str = setting(
        help="URL of the metadata server, from which instances get the token for run.staging", default=METADATA_URL
    )
    monitoring_endpoint: str = setting(help="URL of the Cloud Monitoring API (default: Google's)", default="")
    queue_prefix: str = setting(
        help="Prefix of the names of topics and subscriptions",
        default="cloud-tasks-",
        validator=_name_start,
        worker=True,
        locates=True,
    )
    retention_days: float = setting(
        help="Retention of unacknowledged messages in days, 10 minutes to 31 days",
        default=7.0,
        validator=_retention,
    )
    billing_endpoint: str = setting(help="URL of the Cloud Billing API (default: Google's)", default="")
    resource_manager_endpoint: str = setting(
        help="URL of the Cloud Resource Manager API, for doctor and setup (default: Google's)", default=""
    )
    iam_endpoint: str = setting(help="URL of the IAM API, for doctor and setup (default: Google's)", default="")
    service_usage_endpoint: str = setting(
        help="URL of the Service Usage API, for setup (default: Google's)", default=""
    )
    price_max_age_hours: float = setting(
        help="Maximum age of cached prices in hours", default=24.0, validator=_not_negative
    )
