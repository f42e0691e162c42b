"""The process that leases tasks, has them run, watches them and reports."""
