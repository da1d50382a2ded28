from __future__ import annotations

from importlib import import_module

from celery.signals import setup_logging
from django.apps import AppConfig

# Uptime counts from here: with the process, not with its first request.
from config import logs, uptime  # noqa: F401


class ConfigConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        logs.configure()
        # Makes it the current application, which @shared_task binds to. Not in config/__init__.py:
        # what only reads the settings, such as a collector, has no use for Celery.
        import_module("config.celery")
        # A receiver keeps Celery from setting up logging of its own.
        setup_logging.connect(logs.configure, dispatch_uid="config.logs")
