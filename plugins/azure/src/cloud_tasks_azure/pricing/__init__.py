"""Prices of Azure Virtual Machines. The Retail Prices API asks for no credentials, and this needs no SDK."""
