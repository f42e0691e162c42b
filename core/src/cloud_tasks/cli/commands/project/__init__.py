"""Commands on a project and on this installation."""
