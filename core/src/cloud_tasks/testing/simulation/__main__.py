"""``python -m cloud_tasks.testing.simulation``: many seeds, or one again.

Prints the seeds that failed with what they broke; exit code 1 when there is any.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from pathlib import Path

import structlog

from cloud_tasks.testing.simulation import (
    InvariantViolation,
    Simulation,
    SimulationResult,
    draw_scenario,
    scratch_folder,
)


def simulate(seed: int, least_tasks: int, most_tasks: int) -> SimulationResult:
    """One seed. Raises whatever it breaks."""
    scenario = draw_scenario(seed, least_tasks=least_tasks, most_tasks=most_tasks)
    with scratch_folder() as folder:
        return Simulation(scenario, Path(folder)).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cloud_tasks.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed alone, with its log")
    parser.add_argument("--first", type=int, default=0, help="the first of many seeds")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--seconds", type=float, help="stop beginning new seeds after so long")
    parser.add_argument("--least-tasks", type=int, default=200)
    parser.add_argument("--most-tasks", type=int, default=2000)
    options = parser.parse_args()
    alone = options.seed is not None
    level = logging.INFO if alone else logging.CRITICAL
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    failed: list[int] = []
    began = time.monotonic()
    seeds = range(options.seed, options.seed + 1) if alone else range(options.first, options.first + options.seeds)
    done = 0
    for seed in seeds:
        if options.seconds is not None and time.monotonic() - began > options.seconds:
            break
        done += 1
        try:
            result = simulate(seed, options.least_tasks, options.most_tasks)
        except (Exception, InvariantViolation) as error:
            failed.append(seed)
            print(f"seed {seed} FAILED: {type(error).__name__}: {error}", flush=True)
            sizes = f"--least-tasks {options.least_tasks} --most-tasks {options.most_tasks}"
            print(f"  again: python -m cloud_tasks.testing.simulation --seed {seed} {sizes}", flush=True)
            if alone:
                traceback.print_exc()
        else:
            if alone:
                print(result)
    span = time.monotonic() - began
    print(
        f"{done - len(failed)} of {done} seeds from {seeds.start} on held, in {span:.0f} s; failed: {failed or 'none'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
