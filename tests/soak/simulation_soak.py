"""10,000 seeds of the simulated cloud with all faults on, 200 to 2,000 tasks each; the seeds that fail are printed.

Run by `dev.py soak simulation`. Arguments are those of `python -m cloud_tasks.testing.simulation`.
"""

from __future__ import annotations

import sys

from cloud_tasks.testing.simulation.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["--seeds", "10000"]))
