"""How many instances of which offer: the pure decision (`decide`), the state it reads, and the fleet that acts on it."""
