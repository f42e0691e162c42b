"""Event sinks: JSON Lines, console, SQLite."""
