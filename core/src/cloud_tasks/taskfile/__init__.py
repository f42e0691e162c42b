"""Task files at the level of entries: opening, reading a JSON list piece by piece, saying what is wrong with an entry.

The standard library only: a worker with a task file on its own machine needs nothing more, and starts the sooner.
"""
