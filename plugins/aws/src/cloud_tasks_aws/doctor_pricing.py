"""Doctor checks of prices. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.pricing.price_list import pricing_region
from cloud_tasks_aws.session import client, region_for
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["check_pricing"]

_POLICY = "cloud-tasks doctor --policy"


def check_pricing(settings: AwsSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings for the price list and for spot prices."""
    try:
        region = region_for(settings, context.region, context.zone)
    except CloudTasksError as error:
        yield Finding(ok=False, subject="region", message=error.message, remedy=error.hint)
        return
    yield _price_list(settings, region)
    yield _spot(settings, region)


def _price_list(settings: AwsSettings, region: str) -> Finding:
    subject = "AWS price list"
    try:
        prices = client(settings, "pricing", pricing_region(region))
        with translate_errors("reading the price list"):
            prices.describe_services(ServiceCode="AmazonEC2", FormatVersion="aws_v1", MaxResults=1)
    except CloudTasksError as error:
        return Finding(ok=False, subject=subject, message=error.message, remedy=error.hint or _POLICY)
    return Finding(ok=True, subject=subject, message=f"readable in {prices.meta.region_name}")


def _spot(settings: AwsSettings, region: str) -> Finding:
    subject = "spot prices"
    try:
        ec2 = client(settings, "ec2", region)
        with translate_errors("reading spot prices"):
            ec2.describe_spot_price_history(
                StartTime=datetime.now(UTC), ProductDescriptions=["Linux/UNIX"], MaxResults=5
            )
    except CloudTasksError as error:
        return Finding(ok=False, subject=subject, message=error.message, remedy=error.hint or _POLICY)
    return Finding(ok=True, subject=subject, message=f"readable in {region}")
