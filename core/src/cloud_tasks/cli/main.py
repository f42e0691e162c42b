"""The entry point: a group whose commands are imported when they are called.

Invariant, with a test: ``--help`` and ``--version`` import no SDK, no controller and no plugin module.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import cloud_tasks
from cloud_tasks.errors import CloudTasksError, InputError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from cloud_tasks.cli.context import AppContext

__all__ = ["ALIASES", "COMMANDS", "RENAMED", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "cleanup": (
        "cloud_tasks.cli.commands.cloud.cleanup:cleanup",
        "Terminate leftover instances of all jobs.",
    ),
    "completion": (
        "cloud_tasks.cli.commands.project.completion:completion",
        "Print what a shell needs to complete commands with Tab.",
    ),
    "config": ("cloud_tasks.cli.commands.project.config:config", "Show the merged configuration, or its JSON Schema."),
    "delete-queue": ("cloud_tasks.cli.commands.queue.purge_queue:delete_queue", "Delete the queues of a job."),
    "doctor": (
        "cloud_tasks.cli.commands.cloud.doctor:doctor",
        "Check what a job needs, and say what mends what is missing.",
    ),
    "export": (
        "cloud_tasks.cli.commands.job.export:export",
        "Write tasks, attempts or events as CSV, JSON Lines or Parquet.",
    ),
    "init": (
        "cloud_tasks.cli.commands.project.init:init",
        "Write a worker, tasks, a configuration and a startup script.",
    ),
    "list-images": ("cloud_tasks.cli.commands.cloud.list_images:list_images", "List the boot images of the provider."),
    "list-instance-types": (
        "cloud_tasks.cli.commands.cloud.list_instance_types:list_instance_types",
        "List the instance types that satisfy the constraints, with prices.",
    ),
    "list-regions": ("cloud_tasks.cli.commands.cloud.list_regions:list_regions", "List the regions of the provider."),
    "list-running-instances": (
        "cloud_tasks.cli.commands.cloud.list_running_instances:list_running_instances",
        "List the instances of a job, of all jobs, or all that there are.",
    ),
    "load-queue": (
        "cloud_tasks.cli.commands.queue.load_queue:load_queue",
        "Load tasks into a job's queue; start no instance.",
    ),
    "logs": ("cloud_tasks.cli.commands.job.logs:logs", "Show a task's attempts, their output, and its events."),
    "monitor": (
        "cloud_tasks.cli.commands.job.monitor:monitor",
        "Collect the events of workers that were started by hand.",
    ),
    "plan": (
        "cloud_tasks.cli.commands.job.plan:plan",
        "Show what a job would be run on, and for how much; change nothing.",
    ),
    "plugins": (
        "cloud_tasks.cli.commands.project.plugins:plugins",
        "List the installed plugins, show one, begin a new one.",
    ),
    "purge-queue": (
        "cloud_tasks.cli.commands.queue.purge_queue:purge_queue",
        "Remove all messages from the queues of a job.",
    ),
    "report": (
        "cloud_tasks.cli.commands.job.report:report",
        "Write the final report of a job, as text, HTML and others.",
    ),
    "run": ("cloud_tasks.cli.commands.job.run:run", "Run a whole job: load, launch, watch, collect, clean up, report."),
    "ship": (
        "cloud_tasks.cli.commands.project.ship:ship",
        "Make the startup script of `init` fetch your code as it is now.",
    ),
    "show-queue": (
        "cloud_tasks.cli.commands.queue.show_queue:show_queue",
        "Show how many messages the queues of a job hold.",
    ),
    "simulate": ("cloud_tasks.cli.commands.job.simulate:simulate", "Simulate a job to estimate its duration and cost."),
    "status": ("cloud_tasks.cli.commands.job.status:status", "Show how a job stands, from its database."),
    "stop": ("cloud_tasks.cli.commands.job.stop:stop", "Terminate all instances of a job; it can be continued."),
    "worker": ("cloud_tasks.cli.commands.project.worker:worker", "Work on tasks that are shell commands."),
}
"""Each command with its import string and its line in ``--help``."""

ELSEWHERE = {"dashboard": "Show in the browser how jobs go"}
"""Commands of this project's own plugins, each in a distribution and an extra of its name. Of others' commands,
``cloud-tasks plugins`` tells: to list them here, every plugin would have to be imported."""

ALIASES = {"monitor-event-queue": "monitor"}
"""Names that users know from elsewhere; not listed."""

RENAMED = {"rehearse": "simulate", "sweep": "cleanup"}
"""Former names of commands, accepted with a warning on stderr; not listed."""


class LazyGroup(click.Group):
    """Knows its commands by name and summary; imports one when it is called. snake_case spellings are accepted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            lines = {name: summary for name, (_, summary) in COMMANDS.items()}
            lines |= {name: f"{summary} (cloud-tasks[{name}])." for name, summary in ELSEWHERE.items()}
            formatter.write_dl(sorted(lines.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.replace("_", "-")
        name = ALIASES.get(name) or RENAMED.get(name, name)
        target = COMMANDS[name][0] if name in COMMANDS else self._plugin_target(ctx, name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if isinstance(command, click.Command):
            return command
        # A command whose options depend on the installed plugins is made for the registry at hand.
        made: click.Command = command(_app(ctx).registry)
        return made

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so; from the table, for the Tab key is to answer at once."""
        from click.shell_completion import CompletionItem

        known = {**{name: summary for name, (_, summary) in COMMANDS.items()}, **ELSEWHERE}
        found = [CompletionItem(name, help=known[name]) for name in sorted(known) if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            if name in ELSEWHERE:
                hint = f"install it with: pip install 'cloud-tasks[{name}]'"
                raise InputError(f'the command "{name}" is not installed', hint=hint)
            close = difflib.get_close_matches(name.replace("_", "-"), [*COMMANDS, *ELSEWHERE], n=1)
            advice = f'did you mean "{close[0]}"?' if close else 'see "cloud-tasks --help"'
            raise InputError(f'there is no command "{name}"', hint=advice)
        if (current := RENAMED.get(name.replace("_", "-"))) is not None:
            click.echo(f'Warning: the command "{name}" was renamed; use "{current}"', err=True)
        return super().resolve_command(ctx, args)

    @staticmethod
    def _plugin_target(ctx: click.Context, name: str) -> str | None:
        for _, descriptor in _app(ctx).registry.all("command"):
            if descriptor.name == name:
                return str(descriptor.target)
        return None


def _app(ctx: click.Context) -> AppContext:
    """The state of this invocation; made when the first command is looked up, for that comes before the callback."""
    from cloud_tasks.cli.context import AppContext, make_registry

    root = ctx.find_root()
    if root.obj is None:
        root.obj = AppContext(registry=make_registry())
    app: AppContext = root.obj
    return app


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(cloud_tasks.__version__, prog_name="cloud-tasks")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How log lines look.")
@click.pass_context
def cli(ctx: click.Context, debug: bool, log_format: str) -> None:
    """Run thousands to millions of independent tasks on this machine or on the cheapest cloud machines that fit."""
    app = _app(ctx)
    app.debug, app.log_format = debug, log_format


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        outcome = cli.main(args=arguments, prog_name="cloud-tasks", standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        # Some of click's messages take several lines.
        _tell(" ".join(error.format_message().split()), debug)
        code = 2 if isinstance(error, click.UsageError) else 1
    except (click.Abort, KeyboardInterrupt):
        _tell("interrupted", debug)
        code = 130
    except CloudTasksError as error:
        _tell(str(error), debug)
        code = 2 if isinstance(error, InputError) else 1
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except Exception as error:
        _tell(
            f"internal error: {type(error).__name__}: {error}; please report it, with --debug for the traceback", debug
        )
        code = 1
    sys.exit(code)


def _tell(message: str, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(f"Error: {message}", err=True)
