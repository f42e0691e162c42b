"""Code of every worker process: the user-visible data, IPC, process trees, the log. Standard library only."""
