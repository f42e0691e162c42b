"""``tests/soak/simulation_soak.py``: many seeds, on several processors, or one again.

Prints the seeds that failed with what they broke; exit code 1 when there is any.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import structlog

from simulated_cloud import (
    InvariantViolation,
    Simulation,
    SimulationResult,
    draw_scenario,
    scratch_folder,
)

_PROGRAM = "tests/soak/simulation_soak.py"
_BATCH = 100
"""Seeds between two lines."""


def simulate(seed: int, least_tasks: int, most_tasks: int) -> SimulationResult:
    """One seed. Raises whatever it breaks."""
    scenario = draw_scenario(seed, least_tasks=least_tasks, most_tasks=most_tasks)
    with scratch_folder() as folder:
        return Simulation(scenario, Path(folder)).run()


def problem_of(seed: int, least_tasks: int, most_tasks: int) -> tuple[int, str, int]:
    """The seed, what it breaks (empty: nothing), and how many tasks it had."""
    _be_quiet(logging.CRITICAL)
    try:
        return seed, "", simulate(seed, least_tasks, most_tasks).tasks
    except (Exception, InvariantViolation) as error:
        return seed, f"{type(error).__name__}: {error}", 0


def _be_quiet(level: int) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed alone, with its log")
    parser.add_argument("--first", type=int, default=0, help="the first of many seeds")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--seconds", type=float, help="stop beginning new seeds after so long")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--least-tasks", type=int, default=200)
    parser.add_argument("--most-tasks", type=int, default=2000)
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _alone(options)
    return _many(options)


def _alone(options: argparse.Namespace) -> int:
    _be_quiet(logging.INFO)
    try:
        print(simulate(options.seed, options.least_tasks, options.most_tasks))
    except (Exception, InvariantViolation) as error:
        traceback.print_exc()
        print(f"seed {options.seed} FAILED: {type(error).__name__}: {error}", flush=True)
        return 1
    return 0


def _many(options: argparse.Namespace) -> int:
    failed: list[int] = []
    tasks = done = 0
    began = time.monotonic()
    sizes = f"--least-tasks {options.least_tasks} --most-tasks {options.most_tasks}"
    for seed, problem, count in _results(options):
        done += 1
        tasks += count
        if problem:
            failed.append(seed)
            print(f"seed {seed} FAILED: {problem}", flush=True)
            print(f"  again: python {_PROGRAM} --seed {seed} {sizes}", flush=True)
        if done % _BATCH == 0:
            span = time.monotonic() - began
            print(
                f"{done} seeds from {options.first} on, {tasks} tasks, in {span:.0f} s; failed: {len(failed)}",
                flush=True,
            )
    span = time.monotonic() - began
    print(
        f"{done - len(failed)} of {done} seeds from {options.first} on held, {tasks} tasks in all, in {span:.0f} s; "
        f"failed: {sorted(failed) or 'none'}"
    )
    return 1 if failed else 0


def _results(options: argparse.Namespace) -> Iterator[tuple[int, str, int]]:
    """Of each seed, in order: those that were done when the time was over."""
    seeds = range(options.first, options.first + options.seeds)
    run = partial(problem_of, least_tasks=options.least_tasks, most_tasks=options.most_tasks)
    deadline = None if options.seconds is None else time.monotonic() + options.seconds
    if options.processes == 1:
        for seed in seeds:
            if deadline is not None and time.monotonic() > deadline:
                return
            yield run(seed)
        return
    # Forked, so that a change of the files meanwhile changes nothing for those that run.
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        for result in pool.imap(run, seeds, chunksize=4):
            yield result
            if deadline is not None and time.monotonic() > deadline:
                return


if __name__ == "__main__":
    sys.exit(main())
