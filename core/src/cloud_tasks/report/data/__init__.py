"""Facts for reports and exports, as plain data."""
