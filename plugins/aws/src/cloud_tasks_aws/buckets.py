"""Buckets of S3: a client in the region of a bucket, since S3 refuses addresses that were signed for another one; and
the name of the bucket that ``setup`` makes, by which its owner is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["bucket_client", "owner_of", "setup_bucket"]

_SETUP_BUCKET = re.compile(r"cloud-tasks-([0-9]{12})-[a-z0-9-]+")


def bucket_client(create: Callable[[str | None], Any], bucket: str) -> Any:
    """Return a client in the region of a bucket.

    Args:
        create: Returns a client in a region; None for that of the job.
    """
    client = create(None)
    try:
        answer = client.head_bucket(Bucket=bucket, **owner_of(bucket))
    except ClientError as error:
        # Every answer names the region, also to those who may not list the bucket.
        answer = error.response
    region = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if not region or region == client.meta.region_name:
        return client
    client.close()
    return create(region)


def setup_bucket(account: str, region: str) -> str:
    """Return the name of the bucket that ``setup`` makes. Names of buckets are unique among all accounts."""
    return f"cloud-tasks-{account}-{region}"


def owner_of(bucket: str) -> dict[str, str]:
    """Return the argument of calls that lets S3 refuse a bucket unless it belongs to the account of its name.

    Another account may take the name of a bucket of ``setup`` after it was deleted, and let everybody write to it.
    """
    found = _SETUP_BUCKET.fullmatch(bucket)
    return {"ExpectedBucketOwner": found[1]} if found else {}
