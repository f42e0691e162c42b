"""EC2 pricing backend. Imported only when opened: it needs boto3."""
