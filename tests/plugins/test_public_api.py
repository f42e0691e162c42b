"""Snapshot of the plugin API, which installed plugins depend on.

After a change that docs/plugins/compatibility.md allows, from the root of the checkout::

    python core/tests/support/plugin_surface.py > tests/plugins/public_api.txt
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from plugin_surface import describe_surface

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def test_plugin_api_equals_the_snapshot() -> None:
    advice = "if the change is intended: python core/tests/support/plugin_surface.py > tests/plugins/public_api.txt"
    assert describe_surface() == SNAPSHOT.read_text(encoding="utf-8"), advice


def test_snapshot_has_names_fields_methods_hooks_and_the_kit() -> None:
    text = SNAPSHOT.read_text(encoding="utf-8")
    assert "class QueueTraits\n    max_lease: timedelta\n" in text
    assert "protocol Queue\n    create(self) -> None\n" in text
    assert "hook cloud_tasks_register_queue() -> Sequence[QueueBackend]" in text
    assert "kit class PriceCache\n" in text
    assert "kit protocol Timestamped\n    fetched_at: datetime\n" in text
    assert "kit function boot_script(script: str, " in text


def test_kit_is_not_imported_with_the_plugin_api() -> None:
    program = "import sys, cloud_tasks.plugin, cloud_tasks.builtin; print('cloud_tasks.plugin.kit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
