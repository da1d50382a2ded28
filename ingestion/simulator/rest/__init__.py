"""REST side, one file per exchange: ``ROUTES`` maps a real path to a handler."""
