"""The connection of a thread. Where Django looks for it: `<ENGINE>.base.DatabaseWrapper`."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

from config import bulkhead
from config.postgres import TASK_TIMEOUT

# Somebody waits for a page. A task has longer (config.celery sets it); a migration or a command may
# take as long as it needs.
WEB_STATEMENT_TIMEOUT_MS = 5_000


class DatabaseWrapper(base.DatabaseWrapper):
    """Lets a web request pass the bulkhead before whatever may wait for the server.

    All that may do so begins with one of these three. They are here and not in the views, so that
    sessions, tokens and the admin pass it too, and the check whether a kept connection still works.
    """

    def connect(self) -> None:
        bulkhead.be_seated()
        super().connect()

    def set_autocommit(self, *args: Any, **options: Any) -> None:
        bulkhead.be_seated()
        super().set_autocommit(*args, **options)

    def _cursor(self, name: str | None = None) -> Any:
        bulkhead.be_seated()
        return super()._cursor(name)  # type: ignore[misc]  # unknown to django-stubs

    def init_connection_state(self) -> None:
        super().init_connection_state()
        timeout_ms = self.settings_dict.get(TASK_TIMEOUT)
        if bulkhead.in_request():  # a thread that serves the web serves nothing else
            timeout_ms = WEB_STATEMENT_TIMEOUT_MS
        if timeout_ms:
            with self.cursor() as cursor:
                cursor.execute(f"SET statement_timeout = {timeout_ms}")
