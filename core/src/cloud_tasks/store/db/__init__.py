"""The database file: connection, schema, writer lock, batch inserts, enum codes, times and the quantile sketch."""
