"""State that every command receives: the plugin registry and the logging options."""

from __future__ import annotations

import attrs
import click

from cloud_tasks.cli.output import echo
from cloud_tasks.registry import Registry

__all__ = ["AppContext", "make_registry", "pass_app"]


@attrs.define
class AppContext:
    """State of one invocation; created by the entry point, never global."""

    registry: Registry
    debug: bool = False
    log_format: str = "text"
    verbosity: int = 0
    _warned: bool = False

    def start_logging(self, *, verbosity: int = 0) -> None:
        """Configure logging and warn about broken plugins."""
        from cloud_tasks.cli.logging_setup import configure_logging

        configure_logging(log_format=self.log_format, verbosity=max(self.verbosity, verbosity))
        self.warn_of_plugins()

    def warn_of_plugins(self) -> None:
        """Print one line to stderr for each broken plugin, once."""
        if not self._warned:
            self._warned = True
            for problem in self.registry.problems():
                echo(f"Warning: {problem}", err=True)


pass_app = click.make_pass_decorator(AppContext)


def make_registry() -> Registry:
    """Return the registry of the command line: built-ins and installed plugins, found when first needed."""
    import cloud_tasks.builtin

    return Registry(builtins=[("builtin", cloud_tasks.builtin)])
