"""Django's PostgreSQL backend, in which web requests are few at a time and have little time."""
