"""What every command is given: the registry, and how to log."""

from __future__ import annotations

import attrs
import click

from cloud_tasks.registry import Registry

__all__ = ["AppContext", "make_registry", "pass_app"]


@attrs.define
class AppContext:
    """The state of one invocation; made by the entry point, never global."""

    registry: Registry
    debug: bool = False
    log_format: str = "text"
    verbosity: int = 0
    _warned: bool = False

    def start_logging(self, *, verbosity: int = 0) -> None:
        """Configure logging and tell of broken plugins; called by commands that do work."""
        from cloud_tasks.cli.logging_setup import configure_logging

        configure_logging(log_format=self.log_format, verbosity=max(self.verbosity, verbosity))
        self.warn_of_plugins()

    def warn_of_plugins(self) -> None:
        """One line on stderr for each broken plugin, once."""
        if not self._warned:
            self._warned = True
            for problem in self.registry.problems():
                click.echo(f"Warning: {problem}", err=True)


pass_app = click.make_pass_decorator(AppContext)


def make_registry() -> Registry:
    """The registry of the command line: the built-ins, then every installed plugin, both found when first needed."""
    import cloud_tasks.builtin

    return Registry(builtins=[("builtin", cloud_tasks.builtin)])
