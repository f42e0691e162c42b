"""Before the first pass: backends, offers, queues and database of a run, and the wiring of its parts."""
