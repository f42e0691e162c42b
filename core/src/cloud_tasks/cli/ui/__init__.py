"""User interface of a running job: live view, progress log, interrupts, prompts."""
