"""The simulated cloud: the controller's own code against a cloud of faults, under a virtual clock, from a seed."""

from __future__ import annotations

from cloud_tasks.testing.simulation.assembly import Parts
from cloud_tasks.testing.simulation.driver import Simulation, SimulationResult
from cloud_tasks.testing.simulation.monitor import InvariantViolation
from cloud_tasks.testing.simulation.scenario import CALM, Faults, Scenario, draw_scenario
from cloud_tasks.testing.simulation.scratch import scratch_folder

__all__ = [
    "CALM",
    "Faults",
    "InvariantViolation",
    "Parts",
    "Scenario",
    "Simulation",
    "SimulationResult",
    "draw_scenario",
    "scratch_folder",
]
