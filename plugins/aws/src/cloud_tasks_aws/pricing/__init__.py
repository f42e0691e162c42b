"""Prices of Amazon EC2. Imported only when they are asked for: it needs boto3."""
