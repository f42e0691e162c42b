"""Commands on a project and this installation."""
