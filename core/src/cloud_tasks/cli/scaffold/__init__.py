"""Files written by ``init``, ``ship`` and ``plugins new``."""
