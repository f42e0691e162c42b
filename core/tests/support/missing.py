"""What a test needs and this machine lacks."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["missing"]


def missing(what: str, *, how: str) -> NoReturn:
    """Skip the test; fail it on CI, where everything must be present.

    Args:
        how: How to install the program, or to permit what is refused.
    """
    reason = f"{what}: {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
