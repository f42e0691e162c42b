"""``tests/soak/simulation_soak.py``: simulate many seeds on several processors, or one seed with its log.

Prints failed seeds with the violated invariant; exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import structlog

from simulated_cloud import (
    DIALS,
    InvariantViolation,
    Simulation,
    SimulationResult,
    dial_scenario,
    draw_scenario,
    scratch_folder,
)

_PROGRAM = "tests/soak/simulation_soak.py"
_BATCH = 100
"""Number of seeds between two progress lines."""
_ALL = "all"
"""Value of ``--dial`` for all dials, those included that are off."""


def simulate(seed: int, options: argparse.Namespace) -> SimulationResult:
    """Simulate one seed; raise `InvariantViolation` if an invariant is violated."""
    if options.calm:
        (name,) = options.dial
        scenario = dial_scenario(name, seed, tasks=options.min_tasks)
    else:
        dials = [each.name for each in DIALS] if _ALL in options.dial else options.dial
        scenario = draw_scenario(seed, min_tasks=options.min_tasks, max_tasks=options.max_tasks, dials=dials)
    with scratch_folder() as folder:
        return Simulation(scenario, Path(folder)).run()


def problem_of(seed: int, options: argparse.Namespace) -> tuple[int, str, int]:
    """Return the seed, the violated invariant (empty: none), and the number of tasks."""
    _set_log_level(logging.CRITICAL)
    try:
        return seed, "", simulate(seed, options).tasks
    except (Exception, InvariantViolation) as error:
        return seed, f"{type(error).__name__}: {error}", 0


def _set_log_level(level: int) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)
    parser.add_argument("--seed", type=int, help="simulate this seed only, with its log")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=100, help="number of seeds")
    parser.add_argument("--seconds", type=float, help="time after which no more seeds are started")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="number of parallel processes")
    parser.add_argument("--min-tasks", type=int, default=200)
    parser.add_argument("--max-tasks", type=int, default=2000)
    names = [each.name for each in DIALS]
    parser.add_argument("--dial", action="append", default=[], choices=(*names, _ALL), help="draw this dial, too")
    parser.add_argument("--calm", action="store_true", help="a calm cloud, with --dial only")
    options = parser.parse_args(arguments)
    if options.calm and (len(options.dial) != 1 or _ALL in options.dial):
        parser.error("--calm needs one --dial")
    if options.seed is not None:
        return _alone(options)
    return _many(options)


def _alone(options: argparse.Namespace) -> int:
    _set_log_level(logging.INFO)
    try:
        print(simulate(options.seed, options))
    except (Exception, InvariantViolation) as error:
        traceback.print_exc()
        print(f"seed {options.seed} FAILED: {type(error).__name__}: {error}", flush=True)
        return 1
    return 0


def _many(options: argparse.Namespace) -> int:
    failed: list[int] = []
    tasks = done = 0
    began = time.monotonic()
    given = [f"--min-tasks {options.min_tasks} --max-tasks {options.max_tasks}"]
    given += [f"--dial {shlex.quote(name)}" for name in options.dial] + ["--calm"] * options.calm
    for seed, problem, count in _results(options):
        done += 1
        tasks += count
        if problem:
            failed.append(seed)
            print(f"seed {seed} FAILED: {problem}", flush=True)
            print(f"  repeat: python {_PROGRAM} --seed {seed} {' '.join(given)}", flush=True)
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
    """Yield the result of each seed, in order, until the time is over."""
    seeds = range(options.first, options.first + options.seeds)
    run = partial(problem_of, options=options)
    deadline = None if options.seconds is None else time.monotonic() + options.seconds
    if options.processes == 1:
        for seed in seeds:
            if deadline is not None and time.monotonic() > deadline:
                return
            yield run(seed)
        return
    # Forked, so that changes of source files do not affect running seeds.
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        for result in pool.imap(run, seeds, chunksize=4):
            yield result
            if deadline is not None and time.monotonic() > deadline:
                return


if __name__ == "__main__":
    sys.exit(main())
