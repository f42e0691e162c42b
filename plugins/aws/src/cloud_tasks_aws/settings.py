"""Settings of the ``aws:`` section of the configuration."""

from __future__ import annotations

from pathlib import Path

import attrs

from cloud_tasks.plugin import setting

__all__ = ["AwsSettings"]


def _absolute(value: str | Path) -> Path:
    return Path(value).expanduser().absolute()


def _positive(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if value <= 0:
        raise ValueError("must be positive")


def _valid_tags(instance: object, attribute: attrs.Attribute[dict[str, str]], value: dict[str, str]) -> None:
    """Check tags by "Tag your Amazon EC2 resources" of the EC2 user guide: 50 in all, some of them cloud-tasks' own."""
    for name, text in value.items():
        for prefix, owner in (("aws:", "AWS"), ("cloud-tasks-", "cloud-tasks")):
            if name.lower().startswith(prefix):
                raise ValueError(f'"{name}" is not valid: {owner} sets the tags that begin with {prefix}')
        if not 0 < len(name) <= 128 or len(text) > 256:
            raise ValueError(f'"{name}" is not valid: names have 1 to 128 characters, values up to 256')
    if len(value) > 30:
        raise ValueError("at most 30")


@attrs.frozen(kw_only=True)
class AwsSettings:
    """Credentials, endpoints, queues, prices and instances of Amazon Web Services."""

    access_key: str | None = setting(
        help="Access key id (default: the SDK's credential chain)",
        default=None,
        flag="--access-key",
        secret=True,
    )
    secret_key: str | None = setting(
        help="Secret access key, with access_key", default=None, flag="--secret-key", secret=True
    )
    session_token: str | None = setting(
        help="Session token of temporary keys, with access_key and secret_key", default=None, secret=True
    )
    profile: str | None = setting(
        help="Profile of the AWS configuration files (default: AWS_PROFILE)", default=None, flag="--aws-profile"
    )
    credentials_file: Path | None = setting(
        help="Credentials file in the format of ~/.aws/credentials, readable by its owner only",
        default=None,
        converter=attrs.converters.optional(_absolute),
    )

    region: str | None = setting(
        help="AWS region, when run.region is another provider's (default: run.region)",
        default=None,
        worker=True,
    )

    # Endpoints: for private endpoints and emulators
    endpoint_url: str | None = setting(
        help="Endpoint URL of all services without an endpoint of their own (default: AWS)",
        default=None,
        env="AWS_ENDPOINT_URL",
        worker=True,
        locates=True,
    )
    sqs_endpoint: str | None = setting(
        help="Endpoint URL of SQS (default: AWS)", default=None, env="AWS_ENDPOINT_URL_SQS", worker=True, locates=True
    )
    s3_endpoint: str | None = setting(
        help="Endpoint URL of S3 (default: AWS)", default=None, env="AWS_ENDPOINT_URL_S3", worker=True
    )
    ec2_endpoint: str | None = setting(
        help="Endpoint URL of EC2 (default: AWS)", default=None, env="AWS_ENDPOINT_URL_EC2", locates=True
    )
    pricing_endpoint: str | None = setting(
        help="Endpoint URL of the price list (default: AWS)", default=None, env="AWS_ENDPOINT_URL_PRICING"
    )

    # Queues
    queue_prefix: str = setting(
        help="Prefix of queue names, to which IAM policies can be limited",
        default="cloud-tasks-",
        worker=True,
        validator=attrs.validators.matches_re(r"[A-Za-z0-9-]{0,20}"),
        locates=True,
    )
    queue_threads: int = setting(
        help="Maximum concurrent calls per queue", default=16, worker=True, validator=_positive
    )
    oversize_location: str | None = setting(
        help="S3 location of messages over 1 MiB: s3://bucket/prefix (default: such messages are refused)",
        default=None,
        worker=True,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"s3://[a-z0-9.-]{3,63}(/.*)?")),
    )

    tags: dict[str, str] = setting(
        help="Further tags of instances, volumes, launch templates, queues, and of what setup makes",
        factory=dict,
        validator=_valid_tags,
    )

    # Prices
    price_max_age_hours: float = setting(
        help="Maximum age of cached on-demand prices, in hours", default=24.0, validator=_positive
    )
    spot_price_max_age_minutes: float = setting(
        help="Maximum age of cached spot prices, in minutes", default=30.0, validator=_positive
    )

    # Instances
    instance_profile: str | None = setting(
        help="Instance profile (name or ARN) whose role gives workers access to the queues", default=None, asked=True
    )
    subnets: tuple[str, ...] = setting(
        help="Subnets of the instances (default: the subnets of the default VPC)", default=()
    )
    security_groups: tuple[str, ...] = setting(
        help="Security groups of the instances, by id or name (default: a group without inbound rules)", default=()
    )
    key_name: str | None = setting(help="EC2 key pair for SSH login to instances (default: none)", default=None)
    public_address: bool | None = setting(
        help="Whether instances get a public IPv4 address (default: the subnet's setting)", default=None
    )
    encrypt_boot_disk: bool | None = setting(
        help="Whether boot disks are encrypted (default: the account's setting)", default=None
    )
    script_location: str | None = setting(
        help="S3 location of startup scripts over 16 KiB compressed: s3://bucket/prefix (default: they are refused)",
        default=None,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"s3://[a-z0-9.-]{3,63}(/.*)?")),
    )
    metadata_url: str = setting(
        help="URL of the instance metadata service",
        default="http://169.254.169.254",
        env="AWS_EC2_METADATA_SERVICE_ENDPOINT",
    )
    heed_rebalance: bool = setting(
        help="Whether workers stop at a rebalance recommendation, before a spot interruption notice",
        default=False,
        worker=True,
    )
