"""Events on their way out: encoding, spooling to disk, durable delivery, forwarding to sinks, log upload."""
