"""Code of the task process: runner, output capture, result. Standard library only."""
