"""The contract kit: what a backend must do, as tests that its author inherits."""
