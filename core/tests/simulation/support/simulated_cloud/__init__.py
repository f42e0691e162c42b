"""Simulated cloud: runs the controller's code against a faulty cloud, under a virtual clock, from a seed."""

from __future__ import annotations

from simulated_cloud.assembly import Parts
from simulated_cloud.driver import Simulation, SimulationResult
from simulated_cloud.monitor import InvariantViolation
from simulated_cloud.scenario import CALM, Faults, Scenario, draw_scenario
from simulated_cloud.scratch import scratch_folder

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
