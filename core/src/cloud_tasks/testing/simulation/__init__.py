"""The simulated cloud: the controller's own code against a cloud of faults, under a virtual clock, from a seed."""

from __future__ import annotations

from cloud_tasks.testing.simulation.driver import Parts, Simulation, SimulationResult, scratch_folder
from cloud_tasks.testing.simulation.monitor import InvariantViolation
from cloud_tasks.testing.simulation.scenario import CALM, Faults, Scenario, draw_scenario

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
