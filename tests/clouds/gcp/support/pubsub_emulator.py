"""Google's Pub/Sub emulator, started in a separate process on a free loopback port.

It is part of the Google Cloud SDK and never vendored. Not emulated: pulls that wait as long as allowed, exactly-once
delivery, refusal of invalid ack ids, retention over 7 days, Cloud Monitoring.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_servers import free_port, serving
from missing import missing

__all__ = ["leftovers", "pubsub_emulator"]

_JAR = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"
_HOW = "install the Google Cloud SDK with its component pubsub-emulator, and Java 17"
_OPTIONS = ("-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@contextmanager
def pubsub_emulator() -> Iterator[str]:
    """Yield ``host:port`` of an empty emulator, which ends with the context; skip the test without an installation."""
    java, jar = _program()
    port = free_port()
    command = [java, *_OPTIONS, "-jar", str(jar), "--host=127.0.0.1", f"--port={port}"]
    with serving("the Pub/Sub emulator", command, port=port):
        yield f"127.0.0.1:{port}"


def leftovers(address: str, project: str) -> list[str]:
    """Return the topics and subscriptions of a project."""
    import grpc
    from google.pubsub_v1 import PublisherClient, SubscriberClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    with grpc.insecure_channel(address) as channel:
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        topics = publisher.list_topics(request={"project": f"projects/{project}"})
        subscriptions = subscriber.list_subscriptions(request={"project": f"projects/{project}"})
        return sorted([each.name for each in topics] + [each.name for each in subscriptions])


def _program() -> tuple[str, Path]:
    """Return the paths of Java and the emulator."""
    java, gcloud = (shutil.which(name) or missing(f"{name} is not installed", how=_HOW) for name in ("java", "gcloud"))
    # gcloud is a Python program for another Python; this process's variables must not affect it.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    info = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], env=own, capture_output=True, text=True, check=False
    )
    found = sorted(Path(info.stdout.strip() or "/nowhere").glob(_JAR))
    if not found:
        missing("the Google Cloud SDK has no Pub/Sub emulator", how=_HOW)
    return java, found[-1]
