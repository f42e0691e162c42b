"""Command line: a module for each command, imported only when it is called."""
