"""EC2 compute backend. Imported only when opened: it needs boto3."""
