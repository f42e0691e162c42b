"""Templates of shell commands: placeholders are found, checked, and replaced by references to the task's data.

Standard library only, and light: task processes load this package, and the configuration checks templates with it.
"""

from cloud_tasks.command_template.exported_variables import exports_variable
from cloud_tasks.command_template.template import CheckedTasks, CommandTemplate, Invocation, shell_line

__all__ = ["CheckedTasks", "CommandTemplate", "Invocation", "exports_variable", "shell_line"]
