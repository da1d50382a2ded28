"""Django's PostgreSQL backend, in which web requests are few at a time and have little time."""

# How many ms a statement may take: config.celery puts it among a worker's database settings.
TASK_TIMEOUT = "TASK_STATEMENT_TIMEOUT_MS"
