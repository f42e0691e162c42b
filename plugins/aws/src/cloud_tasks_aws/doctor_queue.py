"""Checks of SQS and of the bucket for large messages, for ``doctor`` and before a run. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from cloud_tasks.errors import NotFoundError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import Probe, run_probes
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["check_queue"]

_POLICY = "cloud-tasks doctor --policy"
_ATTEMPTS = 3


def check_queue(settings: AwsSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings for SQS, and for the bucket for large messages if one is configured."""
    bucket = urlsplit(settings.oversize_location or "").netloc

    def queues() -> str:
        sqs = client(settings, "sqs", context.region, attempts=_ATTEMPTS)
        # A permission is checked before the queue is looked for.
        with suppress(NotFoundError), translate_errors("looking up a queue"):
            sqs.get_queue_url(QueueName=f"{settings.queue_prefix}doctor")
        return f"queues can be used in {sqs.meta.region_name}"

    def objects() -> str:
        s3: Any = client(settings, "s3", context.region, attempts=_ATTEMPTS)
        with translate_errors(f"checking the bucket {bucket}"):
            s3.head_bucket(Bucket=bucket)
        return f"{bucket} exists"

    probes = [Probe(subject="SQS", look=queues, remedy=_POLICY)]
    if bucket:
        probes.append(
            Probe(
                subject="bucket for large messages",
                look=objects,
                remedy=f"run: aws s3api create-bucket --bucket {bucket}",
                needs=("SQS",),
                prevents_run=False,
            )
        )
    return run_probes(probes)
