"""Logging, once for everything: our own lines, Django's, Celery's and uvicorn's in one format."""

from __future__ import annotations

import logging.config
import sys
from typing import Any

from django.conf import settings

if "rich" not in sys.modules:
    # structlog takes it in where it is installed, for coloured tracebacks: ours are plain, and it
    # is 4 MB in each process. Who draws with it can still import it after this.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]

import structlog
from structlog.typing import Processor

# These bring handlers of their own, which would print each line a second time in another format.
_TALKERS = ("celery", "django", "django.server", "uvicorn", "uvicorn.error", "uvicorn.access")

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def configure(**_: Any) -> None:
    """Apply LOG_LEVEL and LOG_FORMAT. Takes what Celery's signal sends, and needs none of it."""
    level = settings.LOG_LEVEL.upper()
    structlog.configure(
        processors=[
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    logging.captureWarnings(True)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": _formatter}},
            "filters": {"failures": {"()": lambda: _is_failure}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                **{name: {"handlers": [], "propagate": _talks(name)} for name in _TALKERS},
                "django.request": {"filters": ["failures"]},
                # "Task … received" and "succeeded", seven times a second.
                "celery.worker.strategy": {"level": "WARNING"},
                "celery.app.trace": {"level": "WARNING"},
                "celery.worker.request": {"level": "WARNING"},
                "celery.beat": {"level": "WARNING"},
            },
        }
    )


def _is_failure(record: logging.LogRecord) -> bool:
    """False for a 503: an answer that is meant, which Django would log as an error each time.

    A store that is away has a warning of its own, and /health says the rest.
    """
    return getattr(record, "status_code", None) != 503


def _talks(name: str) -> bool:
    """False for a logger that was switched off, as uvicorn does for ``--no-access-log``."""
    logger = logging.getLogger(name)
    return logger.propagate or bool(logger.handlers)


def _formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last()],
    )


def _last() -> list[Processor]:
    if settings.LOG_FORMAT == "json":
        return [
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(default=str),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]
