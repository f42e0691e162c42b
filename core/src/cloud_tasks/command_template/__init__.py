"""Templates of shell commands: placeholders are found, checked, and replaced by references to the task's data.

Standard library only, and light: task processes load this package, and the configuration checks templates with it.
"""

from cloud_tasks.command_template.template import CommandTemplate, Invocation

__all__ = ["CommandTemplate", "Invocation"]
