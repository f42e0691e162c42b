"""Task sources for cloud-tasks: a parameter grid, and the files of a folder."""
