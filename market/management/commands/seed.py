"""Write the exchanges, symbols and listings that a new installation starts with."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from market import catalog, seeding
from market.symbols import UnknownSymbolError


class Command(BaseCommand):
    help = "Seed exchanges, symbols and listings (SYMBOLS narrows them) and publish the catalogue."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            seeding.check_origin()
            enabled = seeding.seed(settings.SYMBOLS)
        except (UnknownSymbolError, seeding.OriginError) as error:
            raise CommandError(str(error)) from None
        catalog.publish()
        self.stdout.write(f"{enabled} symbols are priced.")
