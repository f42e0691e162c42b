"""Task sources of cloud-tasks: a grid of parameters, and the files of a folder."""
