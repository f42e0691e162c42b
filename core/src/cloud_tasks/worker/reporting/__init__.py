"""Reporting: encoding of events, durable delivery, spooling to disk, forwarding to sinks, upload of logs."""
