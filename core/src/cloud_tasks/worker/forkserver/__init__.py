"""The processes that start task processes: the zygote and the fork server. Standard library only."""
