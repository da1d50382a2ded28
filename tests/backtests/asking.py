"""Asking the backtests' API as its staff do."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from rest_framework.authtoken.models import Token

from backtests.models import Artifact, Job
from oracle.jsontext import decode
from tests.backtests.stored import tune_payload

BASE, ADMIN = "/api/v1/backtests", "/api/v1/admin"


def clerk() -> Client:
    """A client with the token of somebody who is staff."""
    user = User.objects.create_user("clerk", is_staff=True)
    return bearer(Token.objects.create(user=user).key)


def bearer(token: str) -> Client:
    """A client with this token."""
    return Client(headers={"Authorization": f"Bearer {token}"})


def post(client: Client, path: str, body: Any = None, **headers: str) -> Any:
    """Send a body as JSON; a text or bytes as it is."""
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return client.post(path, text, content_type="application/json", headers=headers)


def error(answer: Any) -> dict[str, Any]:
    """An error with its status."""
    body: dict[str, Any] = decode(answer.content)["error"]
    return {"status": answer.status_code, **body}


def put(**fields: Any) -> Job:
    """A job in the queue, that nobody is told of."""
    return Job.objects.create(**{"type": "tune", "payload": tune_payload(), **fields})


def artifact(root: Path, job: Job, *, path: str = "tunes/x/trials.csv") -> Artifact:
    """A file of a job, with its row."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("rank\n1\n")
    return Artifact.objects.create(
        workspace_id="default",
        job=job,
        kind="trials",
        path=path,
        size_bytes=7,
        checksum=sha256(b"rank\n1\n").hexdigest(),
        revision="0" * 16,
    )
