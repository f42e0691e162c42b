"""Files that `init`, `ship` and `plugins new` write."""
