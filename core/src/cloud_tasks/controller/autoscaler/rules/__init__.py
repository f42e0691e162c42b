"""Rules of the decision: each is a pure function from a `FleetView` to actions."""
