"""Fault proxy between clients and the Pub/Sub emulator: a share of the calls fails, before or after its effect."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

__all__ = ["PubSubFaults", "failing_pubsub"]

_SIZES = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
_THREADS = 128
"""Number of threads; each waiting pull occupies one."""


class PubSubFaults(grpc.GenericRpcHandler):
    """Proxy that forwards every call unchanged, unless a fault is injected.

    Args:
        channel: Channel to the emulator.
    """

    def __init__(self, channel: grpc.Channel, *, seed: int = 1) -> None:
        self._channel = channel
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.share = 0.0
        """Share of the calls that fail, half of them after their effect."""
        self.code = grpc.StatusCode.UNAVAILABLE
        """Code of the failures."""
        self.refuse: bytes | None = None
        """Publish requests that contain these bytes are refused as invalid."""
        self.calls = 0
        self.unseen: Counter[str] = Counter()
        """Number of calls, by method, that do not find what was created a moment ago: the real service is eventually
        consistent."""
        self.methods: set[str] = set()
        """Names of the methods called."""
        self.struck = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method = handler_call_details.method.rpartition("/")[2]
        self.methods.add(method)
        forward: Any = self._channel.unary_unary(handler_call_details.method)

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if self.refuse is not None and self.refuse in request and method == "Publish":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a message is not valid")
            if self.unseen[method] > 0:
                self.unseen[method] -= 1
                context.abort(grpc.StatusCode.NOT_FOUND, "Resource not found (resource=just-created).")
            before, after = self._strike()
            if before:
                context.abort(self.code, "injected failure before the effect")
            metadata = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-goog-")]
            call = forward.future(request, timeout=context.time_remaining(), metadata=metadata)
            context.add_callback(call.cancel)
            content = _content(call, context)
            if after:
                context.abort(self.code, "injected failure after the effect")
            return content

        return grpc.unary_unary_rpc_method_handler(answer)

    def _strike(self) -> tuple[bool, bool]:
        with self._lock:
            self.calls += 1
            struck, after = self._random.random() < self.share, self._random.random() < 0.5
            self.struck += struck
        return struck and not after, struck and after


def _content(call: Any, context: grpc.ServicerContext) -> bytes:
    try:
        content: bytes = call.result()
    except grpc.FutureCancelledError:
        context.abort(grpc.StatusCode.CANCELLED, "cancelled")
    except grpc.RpcError as error:
        rpc_error: Any = error
        context.abort(rpc_error.code(), rpc_error.details())
    return content


@contextmanager
def failing_pubsub(address: str, *, seed: int = 1) -> Iterator[tuple[str, PubSubFaults]]:
    """Yield ``host:port`` of a fault proxy for the emulator, and its faults (none at first)."""
    with grpc.insecure_channel(address, options=_SIZES) as channel:
        faults = PubSubFaults(channel, seed=seed)
        server = grpc.server(ThreadPoolExecutor(_THREADS), handlers=[faults], options=_SIZES)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}", faults
        finally:
            server.stop(1.0).wait()
