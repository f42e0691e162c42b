"""`deprecated_fields`: former fields work for one release, with a warning at the plugin's line."""

from __future__ import annotations

import pickle
import warnings
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import attrs
import pytest

from cloud_tasks.deprecation import Removed, Renamed, deprecated_fields, fields_deprecated_by
from cloud_tasks.plugin import ComputeTraits, EventSinkBackend, QueueTraits

QUEUE = {"max_lease": timedelta(minutes=1), "max_message_bytes": 1, "receive_batch": 1, "send_batch": 1}


def never(settings: Any, context: Any) -> AbstractContextManager[Any]:
    raise AssertionError("nothing is opened")


SINK = {"name": "sink", "summary": "A sink", "open": never}

RENAMED = [
    (cls, given, old, change.to)
    for cls, given in ((QueueTraits, QUEUE), (ComputeTraits, {}), (EventSinkBackend, SINK))
    for old, change in fields_deprecated_by(cls).items()
    if isinstance(change, Renamed)
]


@deprecated_fields(colour=Renamed("color"), weight=Removed("measure it", default=1))
@attrs.frozen(kw_only=True, slots=False)
class Sample:
    color: str = "white"
    size: int = 0


def test_deprecated_fields_of_the_plugin_surface() -> None:
    found = {(cls.__name__, old, new) for cls, _, old, new in RENAMED}
    assert found == {
        ("QueueTraits", "delivery_counts", "reports_delivery_count"),
        ("ComputeTraits", "ends_itself", "enforces_max_lifetime"),
        ("ComputeTraits", "chooses", "provider_selects_offer"),
        ("EventSinkBackend", "keeps_once", "idempotent"),
    }


@pytest.mark.parametrize(("cls", "given", "old", "new"), RENAMED)
def test_renamed_field_is_accepted_and_readable_under_both_names(
    cls: type[Any], given: dict[str, Any], old: str, new: str
) -> None:
    with pytest.warns(DeprecationWarning, match=rf"^{cls.__name__}\.{old} is deprecated .* renamed to {new}$") as seen:
        made = cls(**given, **{old: True})
    assert [warning.filename for warning in seen] == [__file__]
    assert made == cls(**given, **{new: True}) != cls(**given)
    assert getattr(made, new) is True
    with pytest.warns(DeprecationWarning, match=new) as seen:
        assert getattr(made, old) is True
    assert [warning.filename for warning in seen] == [__file__]


def test_removed_field_keeps_the_passed_value() -> None:
    with pytest.warns(DeprecationWarning, match="Sample.weight is deprecated .*: ignored: measure it"):
        made = Sample(weight=7)  # type: ignore[call-arg]
    assert made == Sample()
    copied = pickle.loads(pickle.dumps(made))
    with pytest.warns(DeprecationWarning, match="measure it"):
        assert (made.weight, copied.weight, Sample().weight) == (7, 7, 1)  # type: ignore[attr-defined]


def test_evolve_accepts_deprecated_fields_and_warns_at_the_caller() -> None:
    with pytest.warns(DeprecationWarning, match="Sample") as seen:
        made = attrs.evolve(Sample(color="red", size=3), colour="blue", weight=2)  # type: ignore[call-arg]
    assert made == Sample(color="blue", size=3)
    assert {warning.filename for warning in seen} == {__file__}
    assert len(seen) == 2


def test_deprecated_fields_are_not_attrs_fields_and_current_names_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [field.name for field in attrs.fields(Sample)] == ["color", "size"]
        assert attrs.asdict(attrs.evolve(Sample(), color="red")) == {"color": "red", "size": 0}
        assert repr(Sample()) == "Sample(color='white', size=0)"


def test_unknown_field_is_still_an_error() -> None:
    with pytest.raises(TypeError, match="color_"):
        Sample(color_="red")  # type: ignore[call-arg]


def test_deprecated_field_is_not_an_error_by_default() -> None:
    with warnings.catch_warnings(record=True):
        warnings.resetwarnings()
        assert Sample(colour="red").color == "red"  # type: ignore[call-arg]


def test_exact_depth_is_ignored_and_readable() -> None:
    with pytest.warns(DeprecationWarning, match="QueueTraits.exact_depth .*Depth.exact"):
        traits = QueueTraits(**QUEUE, exact_depth=True)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="QueueTraits.exact_depth"):
        assert traits.exact_depth is True  # type: ignore[attr-defined]
    assert traits == QueueTraits(**QUEUE)
