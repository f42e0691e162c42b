"""Clients of S3 for one bucket, in its own region: S3 refuses addresses that were signed for another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["bucket_client"]


def bucket_client(create: Callable[[str | None], Any], bucket: str) -> Any:
    """Return a client in the region of a bucket.

    Args:
        create: Returns a client in a region; None for that of the job.
    """
    client = create(None)
    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        # Every answer names the region, also to those who may not list the bucket.
        answer = error.response
    region = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if not region or region == client.meta.region_name:
        return client
    client.close()
    return create(region)
