from __future__ import annotations

from celery.signals import setup_logging
from django.apps import AppConfig

from config import logs


class ConfigConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        logs.configure()
        # A receiver keeps Celery from setting up logging of its own.
        setup_logging.connect(logs.configure, dispatch_uid="config.logs")
