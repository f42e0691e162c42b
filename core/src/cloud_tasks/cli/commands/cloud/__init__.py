"""Commands on a provider: listings, cleanup, checks."""
