"""Options and their values, shared by several commands."""
