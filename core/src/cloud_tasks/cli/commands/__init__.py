"""Commands by subject; each module is imported only when its command is called."""
