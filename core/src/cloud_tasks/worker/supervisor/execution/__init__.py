"""Attempts in execution: started in the fork server, tracked, completed; retries, prefetch and reused processes."""
