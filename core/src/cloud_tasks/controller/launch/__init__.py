"""Launch requests with startup script and labels, and termination until a complete listing shows no instance."""
