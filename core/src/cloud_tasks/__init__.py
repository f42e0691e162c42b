"""cloud-tasks: the same Python function on a laptop and on a fleet of cloud machines."""

from __future__ import annotations

__version__ = "0.1.0"

from cloud_tasks.errors import Retry

__all__ = ["Retry", "__version__"]
