"""10,000 seeds of the simulated cloud with all faults, 200 to 2,000 tasks each; failing seeds are printed.

Run by `dev.py soak simulation`; with options: `python tests/soak/simulation_soak.py --seed 851` (see `--help`).
"""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[2] / "core" / "tests"
sys.path[:0] = [str(_TESTS / "support"), str(_TESTS / "simulation" / "support")]

from simulated_cloud.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["--seeds", "10000"]))
