"""Check of the staging: whether the controller can upload to it. Nothing is uploaded."""

from __future__ import annotations

import importlib.util

from botocore.exceptions import ClientError

from cloud_tasks.errors import CloudTasksError, InputError, NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, StagingContext
from cloud_tasks.plugin.kit import Probe, is_certain
from cloud_tasks_aws.buckets import bucket_client, owner_of
from cloud_tasks_aws.errors import code_of, is_denied, translate_errors
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings
from cloud_tasks_aws.traits import STAGING_SCHEMES

__all__ = ["staging_probe"]


def staging_probe(settings: AwsSettings, context: CheckContext, *needs: str) -> Probe:
    """Return the check of the context's staging."""
    remedy = "cloud-tasks doctor --provider aws --policy"
    return Probe(
        subject="staging", look=lambda: _look(settings, context), remedy=remedy, needs=needs, prevents_run=is_certain
    )


def _look(settings: AwsSettings, context: CheckContext) -> str:
    place = StagingContext(url=f"{context.staging.rstrip('/')}/file")
    bucket, name = place.bucket_and_name(*STAGING_SCHEMES)
    if importlib.util.find_spec("s3fs") is None:
        raise InputError("s3fs is not installed", hint="run: pip install 'cloud-tasks-aws[files]'")
    s3 = bucket_client(lambda region: client(settings, "s3", region or context.region, attempts=3), bucket)
    try:
        with translate_errors(f"uploading to {bucket}"):
            _upload_nothing(s3, bucket, name)
    except ProviderError as error:
        owner = owner_of(bucket).get("ExpectedBucketOwner")
        if isinstance(error, NotFoundError):
            hint = "cloud-tasks setup aws" if owner else f"aws s3api create-bucket --bucket {bucket}"
            raise CloudTasksError(error.message, hint=f"run: {hint}") from error
        if owner and is_denied(error.__cause__):
            hint = f"use credentials of account {owner}, or run for yours: cloud-tasks setup aws"
            raise CloudTasksError(error.message, hint=hint) from error.__cause__
        raise
    region = s3.meta.region_name
    return f"s3://{bucket} in {region} is writable; instances need no permission: addresses are signed"


def _upload_nothing(s3: object, bucket: str, name: str) -> None:
    """Upload a part of a multipart upload that does not exist: S3 looks for it after the permission `s3:PutObject`."""
    try:
        s3.upload_part(  # type: ignore[attr-defined]
            Bucket=bucket, Key=name, UploadId="cloud-tasks-doctor", PartNumber=1, Body=b"", **owner_of(bucket)
        )
    except ClientError as error:
        if code_of(error) != "NoSuchUpload":
            raise
