"""The project: settings, URLs, ASGI, Celery, health. May import everything below it."""
