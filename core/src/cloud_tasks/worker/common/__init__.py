"""What every process of a worker uses: the user-visible data, IPC, process trees, the log. Standard library only."""
