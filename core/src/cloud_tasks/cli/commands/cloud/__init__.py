"""Commands on a provider: listings, leftovers, checks."""
