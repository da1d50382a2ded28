"""The history's URLs: under /api/v1/admin/, and the older short ones under /admin/."""

from __future__ import annotations

from django.urls import path

from ingestion import api

app_name = "ingestion"
urlpatterns = [
    path("backfill", api.BackfillOrder.as_view(), name="backfill"),
    path("backfills", api.Backfills.as_view(), name="backfills"),
    path("backfills/<int:backfill_id>", api.OneBackfill.as_view(), name="backfill-progress"),
    path(
        "backfills/<int:backfill_id>/cancel", api.CancelBackfill.as_view(), name="backfill-cancel"
    ),
    path("backfills/<int:backfill_id>/retry", api.RetryBackfill.as_view(), name="backfill-retry"),
    path("data/core-symbols", api.CoreSymbols.as_view(), name="core-symbols"),
    path("data/sync/trigger", api.SyncTrigger.as_view(), name="sync-trigger"),
    path("data/status", api.DataStatus.as_view(), name="data-status"),
]
SHORT = [
    path("backfill", api.BackfillOrder.as_view(schema=None)),
    path("data/core-symbols", api.CoreSymbols.as_view(schema=None)),
    path("data/sync/trigger", api.SyncTrigger.as_view(schema=None)),
    path("data/status", api.DataStatus.as_view(schema=None)),
]
