"""``cloud-tasks dashboard``: serve the page, and open a browser."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from html import escape
from pathlib import Path

import click

from cloud_tasks.errors import InputError
from cloud_tasks_dashboard.reading import is_job_database, reading

__all__ = ["dashboard"]


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
    help="Show the jobs whose databases are in this folder. [the current one]",
)
@click.option(
    "--db-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Show the job of this database only.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine. [0: one that is free]")
@click.option(
    "--open/--no-open", "open_browser", default=None, help="Open a browser. [where there is a desktop to show it on]"
)
def dashboard(folder: Path | None, db_file: Path | None, port: int, open_browser: bool | None) -> None:
    """Show how jobs go, on a page in the browser, while they run and afterwards.

    The page is served on this machine only, at an address that holds a secret; it shows and changes nothing.
    """
    from cloud_tasks_dashboard.jobs import Jobs
    from cloud_tasks_dashboard.server import ADDRESS, Dashboard, listen, make_app, make_token

    if folder is not None and db_file is not None:
        raise InputError("--folder and --db-file exclude each other", hint="give one of them")
    jobs = Jobs(folder or Path.cwd(), db_file if db_file is None else _database(db_file))
    token = make_token()
    with listen(port) as listener:
        address = f"http://{ADDRESS}:{listener.getsockname()[1]}/{token}/"
        server = Dashboard(make_app(jobs, token))
        click.echo(f"Dashboard: {address}")
        click.echo("Whoever has this address can see the jobs. Press Ctrl-C to end.", err=True)
        sys.stdout.flush()
        with _browser(address) if _wanted(open_browser) else contextlib.nullcontext():
            server.run(sockets=[listener])


def _database(path: Path) -> Path:
    """Raises `InputError` where it cannot be shown: the user named it."""
    from cloud_tasks.errors import StoreError

    path = path.expanduser()
    if path.exists() and not is_job_database(path):
        raise InputError(f"{path}: not a job database of cloud-tasks", hint="check --db-file")
    try:
        with reading(path):
            return path
    except StoreError as error:
        raise InputError(error.message, hint=error.hint) from error


def _wanted(asked: bool | None) -> bool:
    if asked is not None:
        return asked
    shown = sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return shown and sys.stdout.isatty()


@contextlib.contextmanager
def _browser(address: str) -> Iterator[None]:
    """Open the page, by way of a file that leads there: the address is a secret, and a command line is not."""
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-dashboard-") as folder:
        page = Path(folder) / "open.html"
        page.touch(mode=0o600)
        page.write_text(
            f'<!DOCTYPE html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0;url={escape(address)}"><a href="{escape(address)}">Dashboard</a>\n'
        )
        if not _open(page.as_uri()):
            click.echo("No browser could be started; open the address yourself.", err=True)
        yield


def _open(address: str) -> bool:
    return webbrowser.open(address)
