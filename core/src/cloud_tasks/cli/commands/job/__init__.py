"""Commands on a job: run, plan, status, report and their like."""
