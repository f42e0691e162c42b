"""``cloud-tasks dashboard``: serve the page and open a browser."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from html import escape
from pathlib import Path

import click

from cloud_tasks import exit_codes
from cloud_tasks.errors import InputError
from cloud_tasks.store import check_content, is_job_database
from cloud_tasks_dashboard.database import CHECKED_TASKS, open_reader

__all__ = ["configured_database", "dashboard"]

_EXIT_SECONDS = 1.0


@click.command(
    "dashboard",
    epilog="\b\nExamples:\n"
    "  cloud-tasks dashboard\n"
    "  cloud-tasks dashboard --folder ~/jobs --port 8765 --no-open\n"
    "  cloud-tasks dashboard --db-file sums.db",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder with the job databases to show. [current folder]",
)
@click.option(
    "--db-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Show only the job of this database.",
)
@click.option(
    "--config",
    "-c",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Show the jobs in the folder of this configuration file, and that of its db_file.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine. [0: any free port]")
@click.option("--open/--no-open", "open_browser", default=None, help="Open a browser. [if a desktop is available]")
def dashboard(
    folder: Path | None, db_file: Path | None, config_file: Path | None, port: int, open_browser: bool | None
) -> None:
    """Show jobs in the browser, running or finished.

    The page is read-only and served on this machine only, at a URL with a secret token.
    """
    from cloud_tasks_dashboard.jobs import Jobs
    from cloud_tasks_dashboard.server import ADDRESS, Dashboard, listen, make_app, make_token

    places = {"--folder": folder, "--db-file": db_file, "--config": config_file}
    given = [option for option, value in places.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} exclude each other", hint="use one of them")
    configured = None
    if config_file is not None:
        folder, configured = config_file.parent, configured_database(config_file)
    jobs = Jobs(folder or Path.cwd(), db_file if db_file is None else _database(db_file), also=configured)
    token = make_token()
    with listen(port) as listener:
        address = f"http://{ADDRESS}:{listener.getsockname()[1]}/{token}/"
        server = Dashboard(make_app(jobs, token))
        click.echo(f"Dashboard: {address}")
        click.echo("Anyone with this URL can see the jobs. Press Ctrl-C to exit.", err=True)
        sys.stdout.flush()
        with _browser(address) if _opens_browser(open_browser) else contextlib.nullcontext():
            server.run(sockets=[listener])
    _leave_stalled_reads()


def _leave_stalled_reads() -> None:
    """End the process if a read never returns, such as one of a stalled network disk; Python would wait for it."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(_EXIT_SECONDS)
            if thread.is_alive():
                sys.stdout.flush()
                os._exit(exit_codes.COMPLETED)


def configured_database(file: Path) -> Path | None:
    """Return the database that a configuration file names with ``db_file``; None if it names none, or is a pipe.

    Raises:
        InputError: It cannot be read, or is not YAML. The error has nothing of its content.
    """
    import yaml

    if not file.is_file():
        return None
    try:
        content = yaml.safe_load(file.read_bytes())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError("cannot read the configuration: it is not valid YAML", where=str(file)) from error
    run = content.get("run") if isinstance(content, dict) else None
    written = run.get("db_file") if isinstance(run, dict) else None
    return file.parent / Path(written).expanduser() if isinstance(written, str) and written.strip() else None


def _database(path: Path) -> Path:
    """Return the expanded path, or raise `InputError` if it is not a readable job database."""
    from cloud_tasks.errors import StoreError

    path = path.expanduser()
    if path.exists() and not is_job_database(path):
        raise InputError(f"{path}: not a job database of cloud-tasks", hint="check --db-file")
    try:
        with open_reader(path, snapshot=True) as connection:
            check_content(connection, path, sample=CHECKED_TASKS)
            return path
    except StoreError as error:
        raise InputError(error.message, hint=error.hint) from error


def _opens_browser(asked: bool | None) -> bool:
    if asked is not None:
        return asked
    has_desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return has_desktop and sys.stdout.isatty()


@contextlib.contextmanager
def _browser(address: str) -> Iterator[None]:
    """Open the page through a private redirect file, so that the secret URL is on no command line."""
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-dashboard-") as folder:
        page = Path(folder) / "open.html"
        page.touch(mode=0o600)
        page.write_text(
            f'<!DOCTYPE html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0;url={escape(address)}"><a href="{escape(address)}">Dashboard</a>\n'
        )
        if not _open(page.as_uri()):
            click.echo("Cannot start a browser; open the URL manually.", err=True)
        yield


def _open(address: str) -> bool:
    return webbrowser.open(address)
