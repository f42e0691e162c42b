"""Messages of a run: tasks to the task queue, events from the event queue, events and progress to event sinks."""
