"""The files that runs leave behind: written apart, moved into place with the row that names them.

A run writes into a folder of its own under ``.staging``. Only in the transaction that ends the job,
after the row has said that it is still this worker's, is the folder moved to where it belongs and
indexed. A worker that dies, or is too late, leaves nothing but a staging folder for `prune`.

What is written is on the disk before the row commits: a row's file is whole after a power cut, too.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import models, transaction

from backtests.jobs import Claim
from backtests.models import ENDED, Artifact, Job

STAGING = ".staging"
FOLDERS: Mapping[str, str] = {"tune": "tunes", "wfo": "wfo"}  # by job type
# So long after it was last touched, what nobody's row names was left by a worker that died.
LEFTOVER = timedelta(days=1)

log = structlog.get_logger(__name__)


class ArtifactError(Exception):
    """The file is gone, or its row names what is none of ours."""

    retryable = False


@dataclass(slots=True, kw_only=True)
class Staged:
    """A run's folder, while it is written. ``kinds`` of its files, by their relative path.

    Millions of rows take seconds: ``look`` is called for each and may raise, which ends it.
    """

    claim: Claim
    folder: Path
    look: Callable[[], None]
    kinds: dict[str, str] = field(default_factory=dict)

    def json(self, path: str, value: Mapping[str, Any], *, kind: str) -> None:
        """Write a JSON file. Raises ValueError on NaN: a number that is none is a None."""
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
        self._place(path, kind).write_text(text + "\n", encoding="utf-8")

    def csv(
        self, path: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, kind: str
    ) -> None:
        """Write a CSV file with a line of column names."""
        with self._place(path, kind).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            for row in rows:
                self.look()
                writer.writerow(row)

    def _place(self, path: str, kind: str) -> Path:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        self.kinds[path] = kind
        return place

    def keeper(self, *, revision: str) -> Callable[[], None]:
        """What files it all: to be called in the transaction that ends the job."""
        return lambda: _keep(self, revision)


def root() -> Path:
    """Where all of them are."""
    return Path(settings.ARTIFACTS_DIR)


def folder(job_type: str, job_id: object) -> str:
    """A run's folder below `root`."""
    return f"{FOLDERS[job_type]}/{job_id}"


@contextmanager
def staged(claim: Claim, *, look: Callable[[], None] = lambda: None) -> Iterator[Staged]:
    """A folder to write a run's files into, on the disk at the end; removed where that fails.

    ``look`` is called while it is written, and ends that by raising.
    One that is written and never kept, for the job was canceled meanwhile, is left for `prune`.
    """
    place = root() / STAGING / f"{claim.job_id}-{claim.attempt}-{secrets.token_hex(4)}"
    place.mkdir(parents=True)
    try:
        yield Staged(claim=claim, folder=place, look=look)
        # Here, not where they are kept: that is in a transaction others wait for.
        for each in (place, *place.rglob("*")):
            look()
            _sync(each)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _keep(run: Staged, revision: str) -> None:
    claim = run.claim
    name = folder(claim.type, claim.job_id)
    # The job may have been pinned while it ran. Its row is locked, by what has just ended it.
    pinned = Job.objects.values_list("pinned", flat=True).get(pk=claim.job_id)
    Artifact.objects.filter(job_id=claim.job_id).delete()  # of a run that is done again
    Artifact.objects.bulk_create(
        Artifact(
            workspace_id=claim.workspace_id,
            job_id=claim.job_id,
            kind=kind,
            path=f"{name}/{path}",
            size_bytes=(run.folder / path).stat().st_size,
            checksum=_checksum(run.folder / path),
            revision=revision,
            pinned=pinned,
        )
        for path, kind in run.kinds.items()
    )
    final = root() / name
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():  # moved by an attempt whose commit failed
        final.rename(run.folder.with_name(f"{run.folder.name}-old"))
    run.folder.rename(final)
    for each in (final.parent, root()):  # the folder's own name, and that of a first run's parent
        _sync(each)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _checksum(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def locate(artifact: Artifact) -> Path:
    """Where the file is. Raises ArtifactError for one that is gone, or that is not below `root`."""
    path = (root() / artifact.path).resolve()
    if not path.is_relative_to(root().resolve()):
        raise ArtifactError(f"artifact {artifact.pk} does not lie in the artifacts' folder")
    if not path.is_file():
        raise ArtifactError(f"artifact {artifact.pk} is gone: {artifact.path}")
    return path


def prune(*, now: datetime, keep_days: int) -> int:
    """Remove runs' files of ``keep_days`` of age that nobody pinned, and leftovers; how many rows.

    Rows first: a file without a row is a leftover, a row without a file would be a lie.
    """
    count = 0
    if keep_days:
        filed = Artifact.objects.filter(job_id=models.OuterRef("pk"))
        before = now - timedelta(days=keep_days)
        old = Job.objects.filter(
            models.Exists(filed),
            ~models.Exists(filed.filter(pinned=True)),
            status__in=ENDED,
            pinned=False,
            finished_at__lt=before,
        )
        for job_id, job_type in list(old.values_list("pk", "type")):
            if rows := _forget(job_id):
                count += rows
                _remove(root() / folder(job_type, job_id))
    _sweep(now)
    return count


@transaction.atomic
def _forget(job_id: UUID) -> int:
    """Delete the rows of a job's files; how many: 0 where it was pinned since it was found."""
    # Whoever pins it locks its row, too: either sees what the other has done.
    Job.objects.select_for_update().filter(pk=job_id).values_list("pk").first()
    rows = Artifact.objects.filter(job_id=job_id)
    if rows.filter(models.Q(pinned=True) | models.Q(job__pinned=True)).exists():
        return 0
    return rows.delete()[0]


def _sweep(now: datetime) -> None:
    """Remove the folders that no row names, once nobody can be at them."""
    oldest = (now - LEFTOVER).timestamp()
    for parent in (STAGING, *FOLDERS.values()):
        for place in (root() / parent).glob("*"):
            try:
                if place.stat().st_mtime > oldest:
                    continue
            except FileNotFoundError:  # moved to its place, this moment
                continue
            named = Artifact.objects.filter(path__startswith=f"{parent}/{place.name}/")
            if parent == STAGING or not named.exists():
                log.info("artifacts.leftover", path=str(place))
                _remove(place)


def _remove(place: Path) -> None:
    """Remove a folder. One that stays, stays a leftover: the next `prune` tries again."""
    try:
        shutil.rmtree(place)
    except OSError as error:
        if place.exists():  # else it was another's doing
            log.warning("artifacts.not_removed", path=str(place), error=str(error))
