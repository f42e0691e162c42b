"""Notifications about a job: a webhook, or any service that Apprise supports."""
