"""Doctor checks of prices. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import Probe, run_probes
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.pricing.price_list import pricing_region
from cloud_tasks_aws.session import client, region_for
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["check_pricing"]

_POLICY = "cloud-tasks doctor --policy"


def check_pricing(settings: AwsSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings for the price list and for spot prices."""

    def region() -> str:
        return region_for(settings, context.region, context.zone)

    def price_list() -> str:
        prices = client(settings, "pricing", pricing_region(region()))
        with translate_errors("reading the price list"):
            prices.describe_services(ServiceCode="AmazonEC2", FormatVersion="aws_v1", MaxResults=1)
        return f"readable in {prices.meta.region_name}"

    def spot() -> str:
        ec2 = client(settings, "ec2", region())
        with translate_errors("reading spot prices"):
            ec2.describe_spot_price_history(
                StartTime=datetime.now(UTC), ProductDescriptions=["Linux/UNIX"], MaxResults=5
            )
        return f"readable in {region()}"

    return run_probes(
        [
            Probe(subject="AWS price list", look=price_list, remedy=_POLICY, prevents_run=False),
            Probe(subject="spot prices", look=spot, remedy=_POLICY, prevents_run=False),
        ]
    )
