"""Limits of requests to Pub/Sub.

"Resource limits" in the Pub/Sub documentation (10 MB and 1,000 messages for a publish request) and the service's own
error for acknowledgements ("Request payload size exceeds the limit: 524288 bytes").
"""

from __future__ import annotations

__all__ = ["ACK_BYTES", "ACK_ENTRIES", "MESSAGE_BYTES", "PUBLISH_BYTES", "PUBLISH_ENTRIES"]

_RESERVED_BYTES = 1_000
PUBLISH_ENTRIES = 1000
PUBLISH_BYTES = 10_000_000 - _RESERVED_BYTES
ACK_ENTRIES = 2500
ACK_BYTES = 524_288 - 4 * _RESERVED_BYTES
MESSAGE_BYTES = 10_000_000 - 2 * _RESERVED_BYTES
"""Maximum body size: such a body fits into a request of its own, with attributes and framing."""
