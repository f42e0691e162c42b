"""Commands on a job's queues."""
