"""Queues on Amazon SQS. Imported only when one is opened: it needs boto3."""
