"""Reading what clients say: an object or nothing."""

import json
from typing import Any


def parsed_object(text: str) -> dict[str, Any] | None:
    """Return a JSON object, or None for anything else."""
    value = parsed(text)
    return value if isinstance(value, dict) else None


def parsed(text: str) -> Any:
    """Return a JSON value, or None when it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def texts(value: Any) -> list[str]:
    """Return the texts of a list, leaving out everything else."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
