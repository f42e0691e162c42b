"""``cloud-tasks doctor``: check this machine, the plugins and the provider, and suggest fixes.

Invariant, with a test: it changes nothing, and a failed check does not prevent the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import click

from cloud_tasks import exit_codes
from cloud_tasks.cli.commands.cloud._doctor_checks import check_core
from cloud_tasks.cli.commands.cloud._doctor_report import mask_of, render_report
from cloud_tasks.cli.commands.cloud.setup import account_setup
from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.config import JobConfig, Layer
from cloud_tasks.controller import check_backend, check_context
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.plugin import Finding, SetupItem
from cloud_tasks.plugin.kit import DoubtError, Probe, run_probes
from cloud_tasks.registry import Registry

__all__ = ["doctor"]

_KINDS = ("queue", "compute", "pricing")


@attrs.frozen(kw_only=True)
class _Result:
    """A finding with its origin."""

    by: str
    finding: Finding


def doctor(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "doctor",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks doctor --provider gcp --project-id my-project",
            "cloud-tasks doctor --config config.yml --json",
            "cloud-tasks doctor --provider aws --policy",
            "cloud-tasks doctor --config config.yml --report > report.md",
        ),
    )
    @click.option("--policy", is_flag=True, help="Print the minimum permissions of controller and workers.")
    @click.option("--report", is_flag=True, help="Print a report to send to others; secrets, names and ids are masked.")
    @json_option
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> int:
        """Check this machine, the plugins and the access to the provider; change nothing.

        Exit code 0: all checks passed; 1: a check failed.
        """
        if values["report"] and (values["policy"] or values["as_json"]):
            raise InputError("a report has no other form", where="--report", hint="omit --policy and --json")
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        if values["policy"]:
            _print_policies(config, as_json=values["as_json"])
            return exit_codes.COMPLETED
        results = [*_core(config), *_backends(config), *_set_up(config)]
        passed = all(result.finding.ok for result in results)
        if values["as_json"]:
            facts = [{"by": result.by, **attrs.asdict(result.finding)} for result in results]
            echo(json.dumps({"ok": passed, "findings": facts}, indent=2))
        elif values["report"]:
            mask = mask_of(config)
            echo(render_report(config, mask(_render(results)), mask))
            echo("Read it before you send it: it may have names that only you recognize.", err=True)
        else:
            echo(_render(results))
        return exit_codes.COMPLETED if passed else exit_codes.RUN_FAILED

    return command


def _core(config: JobConfig) -> Iterator[_Result]:
    return (_Result(by="cloud-tasks", finding=finding) for finding in check_core(config))


def _backends(config: JobConfig) -> Iterator[_Result]:
    """Yield the findings of the chosen backends; one that several backends of a provider share, once."""
    if not config.backends:
        message, remedy = "not configured, access not checked", "add --provider or --config"
        finding = Finding(ok=True, subject="provider", message=message, remedy=remedy)
        yield _Result(by="cloud-tasks", finding=finding)
    known: set[tuple[str, Finding]] = set()
    for kind in _KINDS:
        if kind not in config.backends:
            if config.backends:
                remedy = f"a job needs one: set {kind} in the configuration, or add --set {kind}=NAME"
                finding = Finding(ok=True, subject=kind, message="not chosen, not checked", remedy=remedy)
                yield _Result(by="cloud-tasks", finding=finding)
            continue
        name = config.backends[kind]
        for finding in _check(config, kind, name):
            if (name, finding) not in known:
                known.add((name, finding))
                yield _Result(by=f"{name} {kind}", finding=finding)


def _set_up(config: JobConfig) -> Iterator[_Result]:
    """Yield a finding for each item that setup has made for this configuration."""
    if not any(origin.layer is Layer.SETUP for origin in config.origins.values()):
        return
    by, remedy = f"{config.compute} setup", f"run: cloud-tasks setup {config.compute}"
    try:
        items = account_setup(config).items
    except CloudTasksError as error:
        finding = Finding(ok=False, subject="setup", message=error.message, remedy=error.hint or remedy)
        yield _Result(by=by, finding=finding)
        return
    probes = (Probe(subject=item.subject, look=partial(_look, item), remedy=remedy) for item in items)
    yield from (_Result(by=by, finding=finding) for finding in run_probes(probes))


def _look(item: SetupItem) -> str:
    """Return the result; what cannot be seen is not missing: a job needs fewer permissions than the setup."""
    try:
        problem = item.look()
    except CloudTasksError as error:
        return f"not checked: {error.message}"
    if problem:
        raise DoubtError(problem)
    return item.purpose


def _check(config: JobConfig, kind: str, name: str) -> Iterator[Finding]:
    findings = check_backend(config, kind, check_context(config))
    first = next(findings, None)
    yield first or Finding(ok=True, subject=f"{kind} {name}", message="no checks needed")
    yield from findings


def _render(results: Sequence[_Result]) -> str:
    width = max(len(result.finding.subject) for result in results)
    lines: list[str] = []
    by = ""
    for result in results:
        if result.by != by:
            by = result.by
            lines += ["", by] if lines else [by]
        finding = result.finding
        lines.append(
            f"  {'ok    ' if finding.ok else 'FAILED'}  {finding.subject:<{width}}  {finding.message}".rstrip()
        )
        if finding.remedy:
            lines.append(f"          {'':<{width}}  -> {finding.remedy}")
    failed = sum(not result.finding.ok for result in results)
    end = f"{failed} of {len(results)} checks failed" if failed else "All checks passed"
    return "\n".join([*lines, "", end])


def _print_policies(config: JobConfig, *, as_json: bool) -> None:
    backend = config.registry.compute(config.compute)
    if backend.policies is None:
        raise InputError(f"{config.compute} needs no permissions", where="--policy", hint="omit it")
    documents: Mapping[str, str] = backend.policies(
        config.settings_for("compute", config.compute), check_context(config)
    )
    if as_json:
        echo(json.dumps(dict(documents), indent=2))
        return
    echo("\n\n".join(f"# {name}\n{text.rstrip()}" for name, text in documents.items()))
