"""A receiver of OTLP over HTTP on loopback, which reads the messages as the protocol defines them."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections import deque
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Receiver"]


def plain(value: Any) -> Any:
    """Return the value of an attribute."""
    return getattr(value, value.WhichOneof("value"))


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in pairs}


class Receiver:
    """Keeps what it took."""

    def __init__(self) -> None:
        self.answers: deque[int] = deque()
        """Status codes of the next requests; then all is well."""
        self.always = 200
        self.asked = 0
        self.headers: list[dict[str, str]] = []
        self.hold = threading.Event()
        """While it is clear, no request is answered."""
        self.hold.set()
        self._traces: list[ExportTraceServiceRequest] = []
        self._metrics: list[ExportMetricsServiceRequest] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.asked += 1
                receiver.hold.wait(30)
                code = receiver.answers.popleft() if receiver.answers else receiver.always
                if code == 200:
                    receiver.headers.append(dict(self.headers))
                    receiver.take(self.path, body)
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                """Be silent."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest()
            traces.ParseFromString(body)
            self._traces.append(traces)
        else:
            assert path == "/v1/metrics"
            metrics = ExportMetricsServiceRequest()
            metrics.ParseFromString(body)
            self._metrics.append(metrics)

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self._traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def span(self, **wanted: Any) -> Any:
        """Return the only span with these attributes (``__`` stands for a dot)."""
        facts = {name.replace("__", "."): value for name, value in wanted.items()}
        (found,) = [span for span in self.spans if facts.items() <= attributes(span.attributes).items()]
        return found

    @property
    def resource(self) -> dict[str, Any]:
        request: Any = [*self._traces, *self._metrics][-1]
        (found,) = request.resource_spans if hasattr(request, "resource_spans") else request.resource_metrics
        return attributes(found.resource.attributes)

    def points(self, name: str) -> dict[str, Any]:
        """Return the points of a metric as last sent, by their attributes besides the job's, as text."""
        metrics = {
            metric.name: metric
            for resource in self._metrics[-1].resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        if name not in metrics:
            return {}
        metric = metrics[name]
        found = {}
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            facts = attributes(point.attributes)
            assert facts.pop("cloud_tasks.job.id")
            key = ",".join(f"{key}={facts[key]}" for key in sorted(facts))
            found[key] = point if hasattr(point, "bucket_counts") else getattr(point, point.WhichOneof("value"))
        return found

    def unit(self, name: str) -> str:
        units: set[str] = {
            metric.unit
            for resource in self._metrics[-1].resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        }
        (unit,) = units
        return unit

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
