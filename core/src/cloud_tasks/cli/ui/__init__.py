"""What a person sees while a job runs: the live view, the progress log, interrupts."""
