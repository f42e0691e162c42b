"""cloud-tasks: run a Python function on many independent tasks, on a laptop or on a fleet of cloud instances."""

from __future__ import annotations

__version__ = "0.1.0"

from cloud_tasks.errors import Retry

__all__ = ["Retry", "__version__"]
