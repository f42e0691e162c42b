"""The database file: connection, schema, writer lock, batches, codes, times and sketches."""
