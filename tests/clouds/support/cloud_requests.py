"""Launch requests for tests of fake clouds, and retries for injected faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import attrs
import pytest

from cloud_tasks.errors import LaunchRefusedError, ProviderError
from cloud_tasks.model import LaunchRequest, Offer

__all__ = ["SLEEPER", "insistently", "request_for"]

SLEEPER = "#!/bin/bash\necho started\nexec sleep 600\n"


def request_for(offer: Offer, **changes: Any) -> LaunchRequest:
    """Return a launch request with a new token."""
    request = LaunchRequest(
        client_token=uuid4().hex[:25],
        job_id="job",
        offer=offer,
        startup_script=SLEEPER,
        labels={"run": "run-1", "owner": "sam", "expires": "1900000000"},
    )
    return attrs.evolve(request, **changes)


def insistently(call: Callable[[], Any]) -> Any:
    """Retry transient errors like the controller; fail the test after 50 attempts."""
    for _ in range(50):
        try:
            return call()
        except LaunchRefusedError:
            raise
        except ProviderError as error:
            if not error.transient:
                raise
    pytest.fail("failed 50 times")
