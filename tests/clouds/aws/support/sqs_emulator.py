"""The SQS emulator `ministack` as a separate process on a free loopback port.

Differences from SQS: deletions and purges take effect at once instead of within a minute; an expired receipt handle can
still be extended; there is no throttling.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_servers import free_port, program_of, serving
from sqs_clock import ClockedSqs

__all__ = ["clocked_sqs", "sqs_server"]

_CLOCKED = Path(__file__).with_name("sqs_clock.py")


@contextmanager
def sqs_server() -> Iterator[str]:
    """Run an empty SQS and yield its URL; skip the test if the emulator is not installed."""
    with _sqs([_program()]) as (url, _):
        yield url


@contextmanager
def clocked_sqs() -> Iterator[ClockedSqs]:
    """Run an empty SQS with a clock that the test can advance."""
    _program()
    with _sqs([sys.executable, str(_CLOCKED)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as (url, process):
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            yield ClockedSqs(url, process.stdin, process.stdout)
            process.terminate()


@contextmanager
def _sqs(command: list[str], **streams: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    port = free_port()
    environment = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "sqs"}
    with serving("the SQS emulator", command, port=port, environment=environment, **streams) as process:
        yield f"http://127.0.0.1:{port}", process


def _program() -> str:
    return program_of("ministack", what="the SQS emulator")
