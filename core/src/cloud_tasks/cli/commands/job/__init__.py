"""Commands on a job."""
