"""Contracts of backends, as tests that a plugin inherits. Needs pytest."""

from __future__ import annotations

import pytest

# Before the contracts are imported, so that their failing assertions show values.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{name}"
        for name in (
            "compute",
            "compute_safety",
            "compute_subject",
            "contract",
            "event_sink",
            "instance_side",
            "pricing",
            "queue",
            "queue_completeness",
            "queue_durability",
            "queue_subject",
            "task_source",
        )
    )
)
