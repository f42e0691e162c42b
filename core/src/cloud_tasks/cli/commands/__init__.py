"""The commands, by subject; each file is imported only when its command runs."""
