"""A stand-in for SQS: the emulator `ministack` as a process of its own, on a port of loopback that was free.

What it does not show: a deleted or purged queue answers at once, not within a minute; a receipt handle whose lease
has ended may still be extended; no throttling.
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
    """The address of an empty SQS, which ends with the context; skips where the emulator is not installed."""
    with _sqs([_program()]) as (url, _):
        yield url


@contextmanager
def clocked_sqs() -> Iterator[ClockedSqs]:
    """The same, by a clock that the test can put forward."""
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
