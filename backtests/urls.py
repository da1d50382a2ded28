"""Backtests' URLs under /api/v1/backtests/."""

from __future__ import annotations

from django.urls import path

from backtests import api, runs_api

app_name = "backtests"
urlpatterns = [
    path("strategies", api.Strategies.as_view(), name="strategies"),
    path("tune", api.Tune.as_view(), name="tune"),
    path("wfo", api.Wfo.as_view(), name="wfo"),
    path("runs", runs_api.Runs.as_view(), name="runs"),
    path("runs/<uuid:run_id>", runs_api.OneRun.as_view(), name="run"),
    path("runs/<uuid:run_id>/cancel", runs_api.CancelRun.as_view(), name="cancel"),
    path("runs/<uuid:run_id>/events", runs_api.RunEvents.as_view(), name="events"),
    path("leaderboard", api.Leaderboard.as_view(), name="leaderboard"),
]
