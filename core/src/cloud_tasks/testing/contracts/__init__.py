"""Contracts of backends, as tests that a plugin inherits. Needs pytest."""

from __future__ import annotations

import pytest

# Before the contracts are imported, so that their failing assertions show values.
pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("compute", "contract", "event_sink", "pricing", "queue", "task_source"))
)
