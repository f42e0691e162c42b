"""Slurm as a provider of cloud-tasks: instances are batch jobs."""
