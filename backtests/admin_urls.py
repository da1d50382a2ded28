"""The queue's URLs: under /api/v1/admin/, and the short ones under /admin/."""

from __future__ import annotations

from django.urls import path

from backtests import jobs_api

app_name = "backtests-admin"
urlpatterns = [
    path("jobs", jobs_api.Jobs.as_view(), name="jobs"),
    path("jobs/<uuid:job_id>/retry", jobs_api.RetryJob.as_view(), name="retry"),
    path("artifacts", jobs_api.Artifacts.as_view(), name="artifacts"),
    path(
        "artifacts/<int:artifact_id>/download",
        jobs_api.DownloadArtifact.as_view(),
        name="artifact",
    ),
    path("runs/<uuid:run_id>/pin", jobs_api.PinRun.as_view(), name="pin"),
]
SHORT = [
    path("jobs", jobs_api.Jobs.as_view(schema=None)),
    path("jobs/<uuid:job_id>/retry", jobs_api.RetryJob.as_view(schema=None)),
    path("artifacts", jobs_api.Artifacts.as_view(schema=None)),
    path("artifacts/<int:artifact_id>/download", jobs_api.DownloadArtifact.as_view(schema=None)),
    path("runs/<uuid:run_id>/pin", jobs_api.PinRun.as_view(schema=None)),
]
