"""How many instances of which offer: the pure decision (`decide`), its state, and the fleet that acts on it."""
