"""Each constraint is declared once: pairs, measures, settings and the printed list follow from `model.constraints`."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from cloud_tasks.config import RunSettings
from cloud_tasks.config.sections import run_section
from cloud_tasks.model import Constraints, Limits, Money
from cloud_tasks.model.constraints import constraint_info, pairs
from cloud_tasks.report import render_job_configuration
from cloud_tasks.selection.filter import MEASURES
from cloud_tasks.selection.instance_count import FLEET_MEASURES

_DECLARED = [
    field for cls in (Constraints, Limits) for field in attrs.fields(cls) if constraint_info(field) is not None
]


def test_measures_cover_every_pair_of_constraints() -> None:
    assert set(MEASURES) == set(pairs(Constraints))
    assert set(FLEET_MEASURES) == set(pairs(Limits))


def test_minimum_constraints_have_a_maximum() -> None:
    names = {field.name for field in _DECLARED}
    minima = {name.removeprefix("min_") for name in names if name.startswith("min_")}
    maxima = {name.removeprefix("max_") for name in names if name.startswith("max_")}
    assert minima == set(pairs(RunSettings))
    assert maxima - minima == {"total_cost"}


@pytest.mark.parametrize("field", _DECLARED, ids=lambda field: field.name)
def test_constraints_are_configuration_keys_as_declared(field: attrs.Attribute[object]) -> None:
    _, found = run_section().keys[field.name].owners[0]
    info = constraint_info(field)
    assert info is not None
    assert (found.type, found.default, found.validator) == (field.type, field.default, info.check)
    assert run_section().keys[field.name].info.help == info.help


def test_constraints_are_all_printed() -> None:
    amounts = iter(range(1001, 1100))
    values: dict[str, Any] = {}
    for field in _DECLARED:
        kind = str(field.type)
        if "int" in kind or "float" in kind:
            values[field.name] = next(amounts)
        elif "Money" in kind:
            values[field.name] = Money(next(amounts))
        elif kind == "tuple[str, ...]":
            values[field.name] = (f"x{next(amounts)}",)
        elif kind == "str | None" and field.name not in ("region", "zone"):
            values[field.name] = f"x{next(amounts)}"
    lines = render_job_configuration(
        provider="p", job_id="j", queue_name="q", region=None, zone=None,
        constraints=Constraints(**{f.name: values[f.name] for f in attrs.fields(Constraints) if f.name in values}),
        limits=Limits(**{f.name: values[f.name] for f in attrs.fields(Limits) if f.name in values}),
        scaling_check_interval=1, instance_termination_delay=1, max_runtime=1, max_parallel_instance_creations=1,
        image=None, startup_script=None,
    ).replace(",", "")  # fmt: skip
    missing = [name for name, value in values.items() if str(getattr(value, "usd", value)).strip("(),'") not in lines]
    assert missing == []
    assert len(values) == len(_DECLARED) - 3, "all but the architecture, the region and the zone"
