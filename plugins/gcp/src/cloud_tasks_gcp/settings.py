"""The ``gcp:`` section of the configuration."""

from __future__ import annotations

import re

import attrs

from cloud_tasks.plugin import setting

__all__ = ["GcpSettings"]


def _not_negative(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if value < 0:
        raise ValueError("must not be negative")


def _name_start(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not re.fullmatch(r"(?!goog)[A-Za-z][A-Za-z0-9_.~+-]{0,99}", value):
        raise ValueError("must begin with a letter, not with goog, and have at most 100 letters, digits or -_.~+")


def _retention(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 1 / 144 <= value <= 31:
        raise ValueError("must be between ten minutes and 31 days")


def _attempts(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 5 <= value <= 100:
        raise ValueError("must be between 5 and 100")


@attrs.frozen(kw_only=True)
class GcpSettings:
    """How to reach Google Cloud, and as whom."""

    project_id: str | None = setting(
        help="The project that is charged",
        default=None,
        env="GOOGLE_CLOUD_PROJECT",
        flag="--project-id",
        worker=True,
        asked=True,
    )
    credentials_file: str | None = setting(
        help="JSON key file of an account; the environment's own credentials when not given",
        default=None,
        env="GOOGLE_APPLICATION_CREDENTIALS",
        flag="--credentials-file",
    )
    service_account: str | None = setting(
        help="E-mail address of the service account that instances act as",
        default=None,
        flag="--service-account",
        asked=True,
    )
    scopes: tuple[str, ...] = setting(
        help="Access scopes of the instances' service account; its roles decide what it may do",
        default=("https://www.googleapis.com/auth/cloud-platform",),
    )
    network: str | None = setting(
        help="VPC network of the instances, by name or path; the default one when no subnetwork is given either",
        default=None,
    )
    subnetwork: str | None = setting(
        help="Subnetwork of the instances in the job's region, by name or path", default=None
    )
    external_address: bool = setting(
        help="Whether instances have an external address; without one they need Cloud NAT and Private Google Access",
        default=True,
    )
    tags: tuple[str, ...] = setting(help="Network tags of the instances", default=())
    shielded_secure_boot: bool | None = setting(
        help="Whether instances boot signed software only (Shielded VM); Google's default when not given", default=None
    )
    shielded_vtpm: bool | None = setting(
        help="Whether instances have a virtual trusted platform module; Google's default when not given", default=None
    )
    shielded_integrity_monitoring: bool | None = setting(
        help="Whether the integrity of the instances' boot is watched; Google's default when not given", default=None
    )
    compute_endpoint: str = setting(
        help="Address of the Compute Engine API, scheme included; Google's own when not given", default=""
    )
    impersonate_service_account: str | None = setting(
        help="E-mail address of a service account that the controller acts as, by the caller's right to impersonate it",
        default=None,
        env="CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
    )
    pubsub_endpoint: str = setting(
        help="Address of the Pub/Sub API, https:// included for a regional one; host and port alone for the emulator",
        default="",
        env="PUBSUB_EMULATOR_HOST",
        worker=True,
    )
    monitoring_endpoint: str = setting(
        help="Address of the Cloud Monitoring API, scheme included; Google's own when not given", default=""
    )
    queue_prefix: str = setting(
        help="What the names of this system's topics and subscriptions begin with",
        default="cloud-tasks-",
        validator=_name_start,
        worker=True,
    )
    retention_days: float = setting(
        help="Days for which Pub/Sub keeps a message that nobody has done: 7, or up to 31",
        default=7.0,
        validator=_retention,
    )
    dead_letter_topic: str | None = setting(
        help="Topic that takes a task after max_delivery_attempts; with one, Pub/Sub counts the deliveries of a task",
        default=None,
    )
    max_delivery_attempts: int = setting(
        help="Deliveries after which a task goes to dead_letter_topic, 5 to 100", default=100, validator=_attempts
    )
    billing_endpoint: str = setting(
        help="Address of the Cloud Billing API, scheme included; Google's own when not given", default=""
    )
    resource_manager_endpoint: str = setting(
        help="Address of the Cloud Resource Manager API, for the doctor; Google's own when not given", default=""
    )
    iam_endpoint: str = setting(help="Address of the IAM API, for the doctor; Google's own when not given", default="")
    price_max_age_hours: float = setting(
        help="Hours after which cached prices are fetched again", default=24.0, validator=_not_negative
    )
