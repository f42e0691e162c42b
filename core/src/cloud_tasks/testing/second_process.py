"""A second process of a job: opens an installed backend by its entry point, with the settings of a subject.

The process gets its orders as a pickle on standard input, and answers with one line of JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

import attrs

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import LaunchRequest

__all__ = ["SecondProcess", "is_installed"]

_Kind = Literal["queue", "compute"]
_GROUP = "cloud_tasks"
_PROGRAM = "from cloud_tasks.testing.second_process import main; main()"
_TIMEOUT = 120.0


@attrs.frozen(kw_only=True)
class SecondProcess:
    """Orders for the second process; each method starts one, and returns its answer."""

    backend: Any
    settings: Any
    context: Any

    def exchange(self, wait: timedelta, body: bytes) -> dict[str, Any]:
        """Receive and ack the messages of the queue, at most two, and send another. Return the ``received`` bodies, the
        ``lost`` leases and the ``failures``."""
        return self._ask("queue", "exchange", (wait, body))

    def launch(self, request: LaunchRequest) -> dict[str, Any]:
        """Launch an instance. Return its ``id``."""
        return self._ask("compute", "launch", request)

    def open_instance(self) -> dict[str, Any]:
        """Open the instance side and call its methods. Return the names of the ``modules`` that are loaded then."""
        return self._ask("compute", "open_instance", None)

    def _ask(self, kind: _Kind, order: str, argument: object) -> dict[str, Any]:
        orders = pickle.dumps((kind, self.backend.name, order, self.settings, self.context, argument))
        paths = os.pathsep.join(filter(None, sys.path))
        ended = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=orders,
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
        errors = ended.stderr.decode(errors="replace")
        if ended.returncode != 0:
            # The cause first: reports cut a long message.
            cause = (errors.splitlines() or [f"exit code {ended.returncode}"])[-1]
            raise AssertionError(f"{order} failed in the second process: {cause}\n{errors}")
        return dict(json.loads(ended.stdout.splitlines()[-1]))


def is_installed(kind: _Kind, backend: Any) -> bool:
    """Return whether an installed plugin registers this backend."""
    found = _find(kind, backend.name)
    return found is not None and (found.summary, found.settings) == (backend.summary, backend.settings)


def _find(kind: _Kind, name: str) -> Any:
    entries = sorted(entry_points(group=_GROUP), key=lambda entry: entry.name != name)
    found = (each for entry in entries for each in _registered(entry, kind) if each.name == name)
    return next(found, None)


def _registered(entry: EntryPoint, kind: _Kind) -> Any:
    try:
        register = getattr(entry.load(), f"cloud_tasks_register_{kind}", None)
    except Exception:  # another plugin, which is broken
        return ()
    return () if register is None else register()


def main() -> None:
    """Carry out the orders of standard input, which the process of the tests has written."""
    kind, name, order, settings, context, argument = pickle.load(sys.stdin.buffer)
    print("\n" + json.dumps(_ORDERS[order](_find(kind, name), settings, context, argument)), flush=True)


def _exchange(backend: Any, settings: Any, context: Any, argument: tuple[timedelta, bytes]) -> dict[str, Any]:
    wait, body = argument
    with backend.open(settings, context) as queue:
        deliveries = [*queue.receive(1, wait=wait), *queue.receive(1, wait=timedelta(0))]
        lost = queue.ack([each.lease_id for each in deliveries])
        failures = queue.send([body])
    return {
        "received": [each.body.decode() for each in deliveries],
        "lost": list(lost),
        "failures": [each.reason for each in failures],
    }


def _launch(backend: Any, settings: Any, context: Any, request: LaunchRequest) -> dict[str, Any]:
    with backend.open(settings, context) as compute:
        return {"id": compute.launch(request).instance_id}


def _open_instance(backend: Any, settings: Any, context: Any, argument: None) -> dict[str, Any]:
    with suppress(ProviderError), backend.open_instance(settings, context) as side:
        with suppress(ProviderError):
            side.identity()
        side.termination_notice()
    return {"modules": sorted(sys.modules)}


_ORDERS: dict[str, Any] = {"exchange": _exchange, "launch": _launch, "open_instance": _open_instance}
