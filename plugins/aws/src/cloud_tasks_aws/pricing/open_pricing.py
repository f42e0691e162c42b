"""Opening of the AWS pricing backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from cloud_tasks.plugin import Pricing, PricingContext
from cloud_tasks.plugin.kit import PriceCache
from cloud_tasks_aws.pricing.cache import list_price_files, spot_price_files
from cloud_tasks_aws.pricing.ec2_pricing import Ec2Pricing
from cloud_tasks_aws.pricing.price_list import fetch_list_prices, pricing_region
from cloud_tasks_aws.pricing.spot_history import fetch_spot_prices
from cloud_tasks_aws.session import client, identity_of, region_for
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["open_pricing"]


@contextmanager
def open_pricing(settings: AwsSettings, context: PricingContext) -> Iterator[Pricing]:
    """Open the prices of the context's region; they are fetched when first needed."""
    region = region_for(settings, context.region, context.zone)
    price_list = client(settings, "pricing", pricing_region(region))
    ec2 = client(settings, "ec2", region)
    # Zone letters map to different physical zones in each account.
    account = f"{ec2.meta.endpoint_url} {identity_of(settings)}"
    pricing = Ec2Pricing(
        region,
        PriceCache(
            "On-demand prices",
            files=list_price_files(context.cache_dir, price_list.meta.endpoint_url),
            fetch=lambda code, _: {code: fetch_list_prices(price_list, code)},
            max_age=timedelta(hours=settings.price_max_age_hours),
        ),
        PriceCache(
            "Spot prices",
            files=spot_price_files(context.cache_dir, account),
            fetch=lambda name, _: {name: fetch_spot_prices(ec2, name)},
            max_age=timedelta(minutes=settings.spot_price_max_age_minutes),
        ),
        clients=(price_list, ec2),
    )
    try:
        yield pricing
    finally:
        pricing.close()
