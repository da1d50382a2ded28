"""Set up what the oracle needs: `manage.py setup`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.installation import NotReachableError, install, password_notice

WAIT_SECONDS = 60.0


class Command(BaseCommand):
    help = "Wait for the database and Redis, migrate, seed and create the admin user. Repeatable."
    # Checks that ask the database must not run before it is there.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--wait",
            type=float,
            default=WAIT_SECONDS,
            metavar="SECONDS",
            help="how long to wait for each server (default: %(default)g)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            password = install(wait_seconds=options["wait"], say=self.stdout.write)
        except NotReachableError as error:
            raise CommandError(str(error)) from None
        self.stdout.write("Set up.")
        if password:
            self.stdout.write(password_notice(password))
