"""SQS queue backend. Imported only when opened: it needs boto3."""
