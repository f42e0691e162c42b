"""Tasks to the task queue, events from the event queue, copies of events and progress to sinks."""
