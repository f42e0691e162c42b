"""Wire formats of task messages and event batches, as JSON.

The functions are written by hand: they run once for each task and event, and accept messages of other tools.
Invariants, each with a test:

1. Whatever a message contains, nothing but `MalformedMessageError` is raised, and what is returned can be stored,
   encoded and decoded (`cloud_tasks.sanitize`).
2. A malformed event of a message affects no other one.
3. An event whose type, task, attempt or run cannot be used is malformed. A field of lesser weight is replaced, and the
   detail ``note`` names it: the outcome of the attempt counts.
"""

from __future__ import annotations

from cloud_tasks.convert.event import clean_event, event_to_json
from cloud_tasks.convert.event_batch import decode_events, encode_events
from cloud_tasks.convert.message_text import MalformedMessageError
from cloud_tasks.convert.task_message import EncodedData, decode_task_message, encode_task_message

__all__ = [
    "EncodedData",
    "MalformedMessageError",
    "clean_event",
    "decode_events",
    "decode_task_message",
    "encode_events",
    "encode_task_message",
    "event_to_json",
]
