"""The price list fake, through the SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from pricing_fake import PriceListFake

PRODUCTS = json.loads(
    (Path(__file__).parents[3] / "plugins" / "aws" / "tests" / "fixtures" / "price_list.json").read_text()
)


@pytest.fixture
def fake() -> Iterator[PriceListFake]:
    fake = PriceListFake(PRODUCTS, page=5)
    with fake.server.serving():
        yield fake


@pytest.fixture
def prices(fake: PriceListFake) -> Iterator[Any]:
    client = boto3.client(
        "pricing",
        "us-east-1",
        endpoint_url=fake.server.url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def test_price_list_fake_describes_services(prices: Any) -> None:
    (service,) = prices.describe_services(ServiceCode="AmazonEC2", FormatVersion="aws_v1")["Services"]
    assert service["ServiceCode"] == "AmazonEC2"
    assert {"instanceType", "regionCode", "volumeApiName"} <= set(service["AttributeNames"])


def test_price_list_fake_pages_attribute_values(prices: Any, fake: PriceListFake) -> None:
    pages = prices.get_paginator("get_attribute_values").paginate(
        ServiceCode="AmazonEC2", AttributeName="volumeApiName"
    )
    values = [value["Value"] for page in pages for value in page["AttributeValues"]]
    assert values == ["gp2", "gp3", "io1", "io2", "sc1", "st1", "standard"]
    assert fake.actions == ["GetAttributeValues"] * 2


def test_price_list_fake_filters_products(prices: Any) -> None:
    def products(**filters: str) -> list[Any]:
        chosen = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()]
        pages = prices.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=chosen)
        return [json.loads(text) for page in pages for text in page["PriceList"]]

    assert len(products()) == len(PRODUCTS)
    assert len(products(instanceType="m5.large")) == 6
    assert len(products(instanceType="m5.large", tenancy="Dedicated")) == 1
    assert products(regionCode="nowhere") == []


def test_price_list_fake_returns_service_errors(prices: Any, fake: PriceListFake) -> None:
    with pytest.raises(ClientError) as caught:
        prices.describe_services(ServiceCode="AmazonTea")
    assert caught.value.response["Error"]["Code"] == "NotFoundException"
    fake.refuse("GetProducts", "ThrottlingException", "slow down")
    with pytest.raises(ClientError) as caught:
        prices.get_products(ServiceCode="AmazonEC2")
    assert caught.value.response["Error"]["Code"] == "ThrottlingException"
