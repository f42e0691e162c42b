"""The dashboard: a local web page that shows jobs, running or finished, from their databases."""
