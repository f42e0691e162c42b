"""Data of reports and exports."""
