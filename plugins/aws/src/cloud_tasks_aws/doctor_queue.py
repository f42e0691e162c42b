"""Checks of SQS and of the bucket for large messages, for ``doctor`` and before a run. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cloud_tasks.errors import CloudTasksError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["check_queue"]

_POLICY = "cloud-tasks doctor --policy"
_ATTEMPTS = 3


def check_queue(settings: AwsSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings for SQS, and for the bucket for large messages if one is configured."""
    try:
        sqs = client(settings, "sqs", context.region, attempts=_ATTEMPTS)
        with translate_errors("listing queues"):
            sqs.list_queues(QueueNamePrefix=settings.queue_prefix or "cloud-tasks", MaxResults=1)
    except CloudTasksError as error:
        # A run makes the same call.
        is_certain = not (isinstance(error, ProviderError) and error.transient)
        remedy = error.hint or _POLICY
        yield Finding(ok=False, subject="SQS", message=error.message, remedy=remedy, prevents_run=is_certain)
        return
    yield Finding(ok=True, subject="SQS", message=f"queues can be listed in {sqs.meta.region_name}")
    if settings.oversize_location is not None:
        yield _bucket(settings, context)


def _bucket(settings: AwsSettings, context: CheckContext) -> Finding:
    bucket = urlsplit(str(settings.oversize_location)).netloc
    subject = "bucket for large messages"
    try:
        s3: Any = client(settings, "s3", context.region, attempts=_ATTEMPTS)
        with translate_errors(f"checking the bucket {bucket}"):
            s3.head_bucket(Bucket=bucket)
    except CloudTasksError as error:
        return Finding(
            ok=False,
            subject=subject,
            message=error.message,
            remedy=error.hint or f"run: aws s3api create-bucket --bucket {bucket}",
        )
    return Finding(ok=True, subject=subject, message=f"{bucket} exists")
