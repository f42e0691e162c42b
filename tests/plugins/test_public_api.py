"""The plugin API is what plugins out there were written against: a change of it is seen, and meant.

After a change that the compatibility promise allows (docs/plugins/compatibility.md), from the root of the checkout::

    python core/tests/support/plugin_surface.py > tests/plugins/public_api.txt
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from plugin_surface import describe_surface

from cloud_tasks.plugin import ComputeTraits

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def test_the_plugin_api_is_that_of_the_snapshot() -> None:
    advice = "if that is meant: python core/tests/support/plugin_surface.py > tests/plugins/public_api.txt"
    assert describe_surface() == SNAPSHOT.read_text(encoding="utf-8"), advice


def test_the_snapshot_knows_names_fields_methods_and_hooks() -> None:
    text = SNAPSHOT.read_text(encoding="utf-8")
    assert "class QueueTraits\n    max_lease: timedelta\n" in text
    assert "protocol Queue\n    create(self) -> None\n" in text
    assert "hook cloud_tasks_register_queue() -> Sequence[QueueBackend]" in text


def test_compute_traits_accept_a_removed_field_with_a_warning() -> None:
    arguments: dict[str, Any] = {"spot": False, "max_script_bytes": 1024}
    with pytest.warns(DeprecationWarning, match="ComputeTraits.max_script_bytes is no longer used"):
        traits = ComputeTraits(**arguments)
    assert traits == ComputeTraits(spot=False)
    unknown: dict[str, Any] = {"no_such_field": 1}
    with pytest.raises(TypeError, match="no_such_field"):
        ComputeTraits(**unknown)


def test_compute_traits_without_a_removed_field_do_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    assert attrs.evolve(ComputeTraits(spot=False), chooses=True) == ComputeTraits(spot=False, chooses=True)
    assert len(recwarn) == 0
