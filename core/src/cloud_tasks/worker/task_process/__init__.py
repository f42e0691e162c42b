"""What runs inside the process of one task: the runner, output capture, the result. Standard library only."""
