"""The ``aws:`` section of the configuration."""

from __future__ import annotations

from pathlib import Path

import attrs

from cloud_tasks.plugin import setting

__all__ = ["AwsSettings"]


def _absolute(value: str | Path) -> Path:
    return Path(value).expanduser().absolute()


def _positive(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if value <= 0:
        raise ValueError("must be above zero")


@attrs.frozen(kw_only=True)
class AwsSettings:
    """How to reach Amazon Web Services, and as whom."""

    access_key: str | None = setting(
        help="Access key id; the SDK's own chain of credentials when not given",
        default=None,
        flag="--access-key",
        secret=True,
    )
    secret_key: str | None = setting(help="Secret access key", default=None, flag="--secret-key", secret=True)
    session_token: str | None = setting(
        help="Session token of temporary keys, with access_key and secret_key", default=None, secret=True
    )
    profile: str | None = setting(
        help="Profile of the SDK's configuration files (default: AWS_PROFILE)", default=None, flag="--aws-profile"
    )
    credentials_file: Path | None = setting(
        help="Credentials file in the form of ~/.aws/credentials, readable by its owner alone",
        default=None,
        converter=attrs.converters.optional(_absolute),
    )

    region: str | None = setting(
        help="Region of AWS, where the job's own region is one of another provider (default: run.region)",
        default=None,
        worker=True,
    )

    # Where the services are: for private endpoints, and for stand-ins
    endpoint_url: str | None = setting(
        help="Address of all services that have no own setting (default: the public ones)",
        default=None,
        env="AWS_ENDPOINT_URL",
        worker=True,
    )
    sqs_endpoint: str | None = setting(help="Address of SQS", default=None, env="AWS_ENDPOINT_URL_SQS", worker=True)
    s3_endpoint: str | None = setting(help="Address of S3", default=None, env="AWS_ENDPOINT_URL_S3", worker=True)
    ec2_endpoint: str | None = setting(help="Address of EC2", default=None, env="AWS_ENDPOINT_URL_EC2")
    pricing_endpoint: str | None = setting(
        help="Address of the price list service", default=None, env="AWS_ENDPOINT_URL_PRICING"
    )

    # Queues
    queue_prefix: str = setting(
        help="What the names of the queues begin with, so that a policy can be held to them",
        default="cloud-tasks-",
        worker=True,
        validator=attrs.validators.matches_re(r"[A-Za-z0-9-]{0,20}"),
    )
    queue_threads: int = setting(help="Most calls to a queue at once", default=16, worker=True, validator=_positive)
    oversize_location: str | None = setting(
        help="Where messages over the limit of SQS go: s3://bucket/prefix (default: they are refused)",
        default=None,
        worker=True,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"s3://[a-z0-9.-]{3,63}(/.*)?")),
    )

    # Prices
    price_max_age_hours: float = setting(
        help="Hours after which cached prices are fetched again", default=24.0, validator=_positive
    )
    spot_price_max_age_minutes: float = setting(
        help="Minutes after which cached spot prices are fetched again", default=30.0, validator=_positive
    )

    # Machines
    instance_profile: str | None = setting(
        help="Instance profile (name or ARN) whose role gives workers access to the queue", default=None, asked=True
    )
    subnets: tuple[str, ...] = setting(help="Subnets for the instances (default: those of the default VPC)", default=())
    security_groups: tuple[str, ...] = setting(
        help="Security groups by id or name (default: one that lets nothing in)", default=()
    )
    key_name: str | None = setting(help="Key pair for logging in to instances (default: none)", default=None)
    public_address: bool | None = setting(
        help="Whether instances get a public IPv4 address (default: as their subnet says)", default=None
    )
    encrypt_boot_disk: bool | None = setting(
        help="Whether boot disks are encrypted (default: as the account says)", default=None
    )
    script_location: str | None = setting(
        help="Where startup scripts over 16 KiB compressed go: s3://bucket/prefix (default: they are refused)",
        default=None,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"s3://[a-z0-9.-]{3,63}(/.*)?")),
    )
    metadata_url: str = setting(
        help="Address of the metadata service, asked on an instance",
        default="http://169.254.169.254",
        env="AWS_EC2_METADATA_SERVICE_ENDPOINT",
    )
    heed_rebalance: bool = setting(
        help="Whether a worker stops at a rebalance recommendation, before there is an interruption notice",
        default=False,
        worker=True,
    )
