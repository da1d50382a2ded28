"""The project: settings, URLs, ASGI, Celery, health. May import everything below it."""

from config.celery import app as celery_app

__all__ = ("celery_app",)
