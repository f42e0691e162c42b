"""Azure Virtual Machines. Imported only when it is asked for: it needs the management SDKs."""
