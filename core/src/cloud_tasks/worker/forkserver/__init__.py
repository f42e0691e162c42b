"""The processes that fork task processes: the zygote and the fork server with its children. Standard library only."""
