"""Names in the texts of the sample plugins are those of their backends and settings. Needs no installation."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

SAMPLES = Path(__file__).parents[2] / "examples" / "plugins"
# The module of each sample, and the backends that it registers.
BACKENDS = {
    ("parameter_sources", "cloud_tasks_parameters"): ("toml-grid", "directory"),
    ("redis_queue", "cloud_tasks_redis"): ("redis",),
    ("nats_queue", "cloud_tasks_nats"): ("nats",),
}
EACH_SAMPLE = pytest.mark.parametrize(("sample", "package"), BACKENDS)


def backends_of(sample: str, package: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the backends of a sample by name, imported from its folder."""
    monkeypatch.syspath_prepend(SAMPLES / sample / "src")
    module = importlib.import_module(f"{package}.plugin")
    hooks = [value for name, value in vars(module).items() if name.startswith("cloud_tasks_register_")]
    return {backend.name: backend for hook in hooks for backend in hook()}


def settings_of(backends: dict[str, Any]) -> dict[str, set[str]]:
    return {name: {field.name for field in attrs.fields(each.settings)} for name, each in backends.items()}


def texts_of(sample: str) -> dict[str, str]:
    files = [file for ending in ("py", "md", "toml") for file in (SAMPLES / sample).rglob(f"*.{ending}")]
    return {file.relative_to(SAMPLES).as_posix(): file.read_text(encoding="utf-8") for file in files}


@EACH_SAMPLE
def test_sample_requires_the_releases_that_keep_the_interface(sample: str, package: str) -> None:
    project = tomllib.loads((SAMPLES / sample / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "cloud-tasks>=0.1.0,<0.2" in project["dependencies"]


@EACH_SAMPLE
def test_sample_registers_its_backends(sample: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(backends_of(sample, package, monkeypatch)) == BACKENDS[sample, package]


@EACH_SAMPLE
def test_sample_texts_name_existing_settings(sample: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(backends_of(sample, package, monkeypatch))
    key = re.compile(rf"(?<![\w./-])({'|'.join(settings)})\.(\w+)(?=[^\w.(]|\.\s|$)")
    named = [(file, *found) for file, text in texts_of(sample).items() for found in key.findall(text)]
    imported = {"exceptions", "Redis", "errors", "js", "conf"}  # `redis` and `nats` are also the names of libraries
    assert named
    assert [each for each in named if each[2] not in settings[each[1]] | imported] == []


@EACH_SAMPLE
def test_sample_readme_has_valid_sections(sample: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(backends_of(sample, package, monkeypatch))
    readme = (SAMPLES / sample / "README.md").read_text(encoding="utf-8")
    sections: dict[str, Any] = {}
    for block in re.findall(r"^```yaml\n(.*?)^```", readme, re.M | re.S):
        sections |= yaml.safe_load(block)
    assert sections.keys() >= settings.keys()
    assert {name: sections[name].keys() - keys for name, keys in settings.items()} == {name: set() for name in settings}


def test_samples_share_no_name_with_core(monkeypatch: pytest.MonkeyPatch) -> None:
    from cloud_tasks import builtin
    from cloud_tasks.registry import BACKEND_KINDS, Registry

    registry = Registry(builtins=[("builtin", builtin)], only=[])
    of_core = {name for kind in BACKEND_KINDS for name in registry.names(kind)}
    assert "grid" in of_core
    for sample, package in BACKENDS:
        assert of_core.isdisjoint(backends_of(sample, package, monkeypatch))
