"""Azure Virtual Machines pricing backend. The Retail Prices API needs neither credentials nor an SDK."""
