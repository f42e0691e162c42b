"""Command line: a group that imports each command when it is called.

Invariant, with a test: ``--help`` and ``--version`` import no SDK, no controller and no plugin module.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

import cloud_tasks
from cloud_tasks import exit_codes
from cloud_tasks.cli.failures import describe_failure, is_of_output, prepare_streams, silence_stdout
from cloud_tasks.cli.output import echo, until_closed
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.escape import terminal_line, without_credentials

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from cloud_tasks.cli.context import AppContext

__all__ = ["ALIASES", "COMMANDS", "RENAMED", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("job.run:run", "Run a job from start to end."),
    "plan": ("job.plan:plan", "Estimate instances, duration and cost of a job."),
    "simulate": ("job.simulate:simulate", "Simulate a job to estimate its duration and cost."),
    "status": ("job.status:status", "Show a job's status."),
    "monitor": ("job.monitor:monitor", "Collect the events of workers started by hand."),
    "stop": ("job.stop:stop", "Terminate all instances of a job."),
    "report": ("job.report:report", "Write the report of a job."),
    "export": ("job.export:export", "Export tasks, attempts or events."),
    "logs": ("job.logs:logs", "Show a task's attempts, output and events."),
    "load-queue": ("queue.load_queue:load_queue", "Load tasks into a job's queue."),
    "show-queue": ("queue.show_queue:show_queue", "Show the number of messages in a job's queues."),
    "purge-queue": ("queue.purge_queue:purge_queue", "Remove all messages from a job's queues."),
    "delete-queue": ("queue.purge_queue:delete_queue", "Delete a job's queues."),
    "list-regions": ("cloud.list_regions:list_regions", "List the provider's regions."),
    "list-images": ("cloud.list_images:list_images", "List the provider's boot images."),
    "list-instance-types": (
        "cloud.list_instance_types:list_instance_types",
        "List matching instance types with prices.",
    ),
    "list-running-instances": ("cloud.list_running_instances:list_running_instances", "List running instances."),
    "cleanup": ("cloud.cleanup:cleanup", "Terminate leftover instances of all jobs."),
    "setup": ("cloud.setup:setup", "Make what a first job needs in the provider's account."),
    "image": ("cloud.image:image", "Make boot images that have the requirements of a job."),
    "doctor": ("cloud.doctor:doctor", "Check this machine, the plugins and the provider."),
    "init": ("project.init:init", "Create a project: worker, tasks, configuration."),
    "ship": ("project.ship:ship", "Update the code that the instances fetch."),
    "config": ("project.config:config", "Show the merged configuration or its JSON Schema."),
    "plugins": ("project.plugins:plugins", "List, show or create plugins."),
    "worker": ("project.worker:worker", "Run a worker for shell-command tasks."),
    "completion": ("project.completion:completion", "Print a shell completion script."),
}
"""Each command with its import string, below ``cloud_tasks.cli.commands``, and its summary."""

ELSEWHERE = {"dashboard": "Show jobs in the browser"}
"""Commands of this project's own plugins, each in a distribution and an extra of its name.

Commands of other plugins are listed by ``cloud-tasks plugins``: listing them here would import every plugin."""

SECTIONS = {"job": "Jobs", "queue": "Queues", "cloud": "Cloud", "project": "Project and installation"}
"""Heading in ``--help`` of the commands of each folder."""

ALIASES = {"monitor-event-queue": "monitor"}
"""Other names of commands; not listed."""

RENAMED = {"rehearse": "simulate", "sweep": "cleanup"}
"""Former names of commands, accepted with a warning on stderr; not listed."""


@contextlib.contextmanager
def _closed_pipes() -> Iterator[None]:
    """End the command where the reader of click's own output, such as help, has closed the pipe."""
    try:
        yield
    except BrokenPipeError as error:
        # Click would exit with 1 without a message.
        if not is_of_output(error):
            raise CloudTasksError(f"a connection was closed by its other end: {error.strerror}") from error
        silence_stdout()
        raise click.exceptions.Exit(exit_codes.COMPLETED) from error


class LazyGroup(click.Group):
    """Command group that lists commands by name and summary, and imports one when called. Accepts snake_case names."""

    def make_context(self, *arguments: Any, **fields: Any) -> click.Context:
        with _closed_pipes():
            return super().make_context(*arguments, **fields)

    def invoke(self, ctx: click.Context) -> Any:
        with _closed_pipes():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for folder, heading in SECTIONS.items():
            lines = [(name, text) for name, (target, text) in COMMANDS.items() if target.startswith(f"{folder}.")]
            if folder == "job":
                lines += [(name, f"{text} (cloud-tasks[{name}]).") for name, text in ELSEWHERE.items()]
            with formatter.section(heading):
                # Names of one width align the summaries of all sections.
                formatter.write_dl([(name.ljust(width), text) for name, text in lines])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.replace("_", "-")
        name = ALIASES.get(name) or RENAMED.get(name, name)
        target = f"cloud_tasks.cli.commands.{COMMANDS[name][0]}" if name in COMMANDS else self._plugin_target(ctx, name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if isinstance(command, click.Command):
            return command
        # The options of the others depend on the installed plugins.
        created: click.Command = command(_app(ctx).registry)
        return created

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands with this prefix, from the table: completion has to be fast."""
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
                raise InputError(f'command "{name}" is not installed', hint=hint)
            close = difflib.get_close_matches(name.replace("_", "-"), [*COMMANDS, *ELSEWHERE], n=1)
            advice = f'did you mean "{close[0]}"?' if close else 'see "cloud-tasks --help"'
            raise InputError(f'unknown command "{name}"', hint=advice)
        if (current := RENAMED.get(name.replace("_", "-"))) is not None:
            echo(f'Warning: command "{name}" was renamed; use "{current}"', err=True)
        return super().resolve_command(ctx, args)

    @staticmethod
    def _plugin_target(ctx: click.Context, name: str) -> str | None:
        for _, descriptor in _app(ctx).registry.all("command"):
            if descriptor.name == name:
                return str(descriptor.target)
        return None


def _app(ctx: click.Context) -> AppContext:
    """Return the state of this invocation, created at the first command lookup, which precedes the callback."""
    from cloud_tasks.cli.context import AppContext, make_registry

    root = ctx.find_root()
    if root.obj is None:
        root.obj = AppContext(registry=make_registry())
    app: AppContext = root.obj
    return app


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(cloud_tasks.__version__, prog_name="cloud-tasks")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", help="Format of log lines (default: text)."
)
@click.pass_context
def cli(ctx: click.Context, debug: bool, log_format: str) -> None:
    """Run thousands to millions of independent tasks on this machine or on the cheapest suitable cloud instances."""
    app = _app(ctx)
    app.debug, app.log_format = debug, log_format


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with one of the `exit_codes`."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    prepare_streams()
    try:
        code = _run(arguments)
        with until_closed(1):
            sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        _show_click_error(error, debug)
        code = exit_codes.BAD_INPUT if isinstance(error, click.UsageError) else exit_codes.RUN_FAILED
    except (click.Abort, KeyboardInterrupt):
        _print_error("interrupted", debug)
        code = exit_codes.INTERRUPTED
    except CloudTasksError as error:
        # Several problems of a configuration are one line each.
        _print_error("\n".join(map(terminal_line, getattr(error, "problems", (str(error),)))), debug)
        code = exit_codes.BAD_INPUT if isinstance(error, InputError) else exit_codes.RUN_FAILED
    except Exception as error:
        code = _show_failure(error, arguments, debug)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    outcome = cli.main(args=arguments, prog_name="cloud-tasks", standalone_mode=False)
    return outcome if isinstance(outcome, int) else exit_codes.COMPLETED


def _show_click_error(error: click.ClickException, debug: bool) -> None:
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        # Not an error of one line: the help of a group without a command.
        with contextlib.suppress(OSError):
            echo(error.format_message(), err=True)
        return
    if isinstance(error, click.NoSuchOption):
        _print_error(terminal_line(f"no such option: {error.option_name}; {_advice(error)}"), debug)
        return
    # Some of click's messages have several lines.
    _print_error(terminal_line(" ".join(error.format_message().split())), debug)


def _advice(error: click.NoSuchOption) -> str:
    """Return the option that was probably meant; click would list every one with a similar letter."""
    if error.ctx is None:
        return 'see "cloud-tasks --help"'
    options = [name for each in error.ctx.command.get_params(error.ctx) for name in (*each.opts, *each.secondary_opts)]
    close = difflib.get_close_matches(error.option_name, [name for name in options if name.startswith("--")], n=1)
    return f'did you mean "{close[0]}"?' if close else f'see "{error.ctx.command_path} --help"'


def _show_failure(error: Exception, arguments: Sequence[str], debug: bool) -> int:
    """Print an unexpected error, and return the exit code."""
    if isinstance(error, OSError) and error.filename is None:
        silence_stdout()
    described = describe_failure(error, arguments)
    if described is None:
        reason = f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
        described = f"{reason}; please report it, with --debug for the traceback", exit_codes.RUN_FAILED
    _print_error(terminal_line(described[0]), debug)
    return described[1]


def _print_error(message: str, debug: bool) -> None:
    with contextlib.suppress(OSError):
        if debug:
            import traceback

            echo(without_credentials(traceback.format_exc()), err=True, nl=False)
        echo(f"Error: {message}", err=True)
