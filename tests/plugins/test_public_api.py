"""The plugin API equals its stored copy, so that every change is intentional.

After a change that docs/plugins/compatibility.md allows, from the root of the checkout::

    python core/tests/support/plugin_surface.py > tests/plugins/public_api.txt
"""

from __future__ import annotations

from pathlib import Path

from plugin_surface import describe_surface

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def test_plugin_api_equals_the_stored_copy() -> None:
    advice = "if the change is intended: python core/tests/support/plugin_surface.py > tests/plugins/public_api.txt"
    assert describe_surface() == SNAPSHOT.read_text(encoding="utf-8"), advice


def test_stored_copy_has_names_fields_methods_and_hooks() -> None:
    text = SNAPSHOT.read_text(encoding="utf-8")
    assert "class QueueTraits\n    max_lease: timedelta\n" in text
    assert "protocol Queue\n    create(self) -> None\n" in text
    assert "hook cloud_tasks_register_queue() -> Sequence[QueueBackend]" in text
