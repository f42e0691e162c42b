"""Simulated cloud: runs the controller's code against a faulty cloud, under a virtual clock, from a seed."""

from __future__ import annotations

from simulated_cloud.assembly import Parts
from simulated_cloud.dials import DIALS, OFF
from simulated_cloud.drawing import dial_scenario, draw_scenario
from simulated_cloud.driver import Simulation, SimulationResult
from simulated_cloud.faults import CALM, Faults
from simulated_cloud.monitor import InvariantViolation
from simulated_cloud.scenario import Scenario
from simulated_cloud.scratch import scratch_folder

__all__ = [
    "CALM",
    "DIALS",
    "OFF",
    "Faults",
    "InvariantViolation",
    "Parts",
    "Scenario",
    "Simulation",
    "SimulationResult",
    "dial_scenario",
    "draw_scenario",
    "scratch_folder",
]
