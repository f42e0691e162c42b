"""Azure Virtual Machines compute backend. Imported only when opened: it needs the management SDKs."""
