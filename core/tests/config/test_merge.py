"""`check_section`: validators of plugins see the section's values before the settings object exists."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from cloud_tasks.config import JobConfig, load_config
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import EventSinkBackend, hookimpl, setting
from cloud_tasks.registry import Registry


def below_high(instance: Any, attribute: object, value: int) -> None:
    if value > instance.high:
        raise ValueError(f"{value} is more than high, {instance.high}")


def below_twice_high(instance: Any, attribute: object, value: int) -> None:
    if value > instance.twice_high:
        raise ValueError(f"{value} is more than {instance.twice_high}")


def broken(instance: Any, attribute: object, value: int) -> None:
    value.no_such_member  # type: ignore[attr-defined]  # noqa: B018  # that is the point


@attrs.frozen(kw_only=True)
class Settings:
    high: int = setting(help="Upper limit", default=10)
    low: int = setting(help="Lower limit", default=1, validator=below_high)
    middle: int = setting(help="Limit that needs a property", default=1, validator=below_twice_high)

    @property
    def twice_high(self) -> int:
        return 2 * self.high


@attrs.frozen(kw_only=True)
class FaultySettings:
    key: int | None = setting(help="Setting with a faulty validator", default=None, validator=broken)

    def __attrs_pre_init__(self) -> None:
        raise AssertionError("not constructed by the check")


def lookup(instance: Any, attribute: object, value: tuple[str, ...]) -> None:
    _ = {"known": 1}[value[0] if value else "nob"]


@attrs.frozen(kw_only=True)
class FaultyDefault:
    names: tuple[str, ...] = setting(help="Setting whose default is not accepted", default=(), validator=lookup)
    key: str = setting(help="A secret", default="known", secret=True)


def load(sets: list[str], cls: type[Any] = Settings) -> JobConfig:
    backend = EventSinkBackend(name="sample", summary="Sample", settings=cls, open=lambda *_: None)
    registry = Registry(only=())
    registry.register("sample", SimpleNamespace(cloud_tasks_register_event_sink=hookimpl(lambda: (backend,))))
    return load_config(registry, file=None, options={}, sets=sets, environ={})


def test_validator_sees_given_and_default_values_of_other_settings() -> None:
    assert load(["sample.low=5", "sample.high=5"]).settings_for("event_sink", "sample").low == 5
    with pytest.raises(InputError, match=r"^--set: sample\.low: 11 is more than high, 10$"):
        load(["sample.low=11"])
    with pytest.raises(InputError, match=r"^--set: sample\.low: 5 is more than high, 4$"):
        load(["sample.low=5", "sample.high=4"])


def test_validator_with_a_property_of_the_class_runs_when_the_settings_are_constructed() -> None:
    assert load(["sample.middle=20"]).settings_for("event_sink", "sample").middle == 20
    config = load(["sample.middle=21"])
    with pytest.raises(InputError, match=r"^sample: 21 is more than 20$"):
        config.settings_for("event_sink", "sample")


def test_validator_that_crashes_is_reported_with_its_error() -> None:
    with pytest.raises(InputError, match=r"sample\.key: the check of this setting failed with AttributeError: 'int'"):
        load(["sample.key=1"], FaultySettings)


@pytest.mark.parametrize("sets", [[], ["sample.key=x"]])
def test_validator_that_crashes_for_a_default_names_plugin_and_setting(sets: list[str]) -> None:
    config = load(sets, FaultyDefault)
    with pytest.raises(InputError) as refused:
        config.settings_for("event_sink", "sample")
    reason = "the check of this setting failed with KeyError: nob (its default)"
    assert str(refused.value) == f"sample.names: {reason}"
