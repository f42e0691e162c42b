"""Templates of shell commands: placeholders are found, checked, and replaced by references to the task's data.

Standard library only, and light: task processes load this package, and the configuration checks templates with it.
"""

from cloud_tasks.command_template.template import CheckedTasks, CommandTemplate, Invocation, shell_line

__all__ = ["CheckedTasks", "CommandTemplate", "Invocation", "shell_line"]
