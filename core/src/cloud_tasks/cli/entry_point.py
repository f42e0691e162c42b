"""Entry point of the installed script: Ctrl-C while the command line is imported ends as it does later.

Invariant, with a test: an interrupt during the import prints one line and exits with code 130.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Import the command line, run it, and exit with one of the `exit_codes`."""
    try:
        from cloud_tasks.cli.main import main as run
    except KeyboardInterrupt:
        print("Error: interrupted", file=sys.stderr)
        sys.exit(130)
    run()
