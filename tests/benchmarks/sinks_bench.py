"""Events per second of each event sink, relative to appending JSON lines, measured in one run.

    python tests/benchmarks/sinks_bench.py [--events 60000]

Batches of 500 with a flush each, as in the controller; measured until the end of `close`. A separate local process
receives the data of OpenTelemetry.
"""

from __future__ import annotations

import argparse
import http.server
import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cloud_tasks.cli.context import make_registry
from cloud_tasks.plugin import EventSinkContext
from cloud_tasks.testing.contracts.event_sink import make_event

BATCH = 500


class DiscardHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Do not log requests."""


def serve(connection: Connection) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), DiscardHandler)
    connection.send(server.server_address[1])
    server.serve_forever()


def measure(name: str, events: int, settings: dict[str, object]) -> float:
    """Return events per second."""
    backend = make_registry().event_sink(name)
    batches = [[make_event(n, result={"sum": n}) for n in range(at, at + BATCH)] for at in range(0, events, BATCH)]
    started = time.perf_counter()
    with backend.open(backend.settings(**settings), EventSinkContext(job_id="bench")) as sink:
        for batch in batches:
            sink.write(batch)
            sink.flush()
    return events / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    events = parser.parse_args().events
    here, there = multiprocessing.Pipe()
    receiver = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    receiver.start()
    address = f"http://127.0.0.1:{here.recv()}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            plans: dict[str, dict[str, object]] = {
                "jsonl": {},
                "sqlite": {},
                "webhook": {"url": f"{address}/hook"},
                "otel": {"endpoint": address},
            }
            first = 0.0
            for name, settings in plans.items():
                rate = measure(name, events, settings)
                first = first or rate
                print(f"{name:8} {rate:9,.0f} events/s   {rate / first:6.2f} of jsonl")
            os.chdir(Path("/"))
    finally:
        receiver.terminate()
        receiver.join()


if __name__ == "__main__":
    main()
