"""The pages of runs, under /backtests/, and what they draw."""

from __future__ import annotations

from django.urls import path

from backtests import pages, pictures

app_name = "runs"
urlpatterns = [
    path("runs/", pages.runs, name="list"),
    path("runs/<uuid:run_id>/", pages.run, name="one"),
    path("runs/<uuid:run_id>/cancel", pages.cancel, name="cancel"),
    path("runs/<uuid:run_id>/retry", pages.retry, name="retry"),
    path("runs/<uuid:run_id>/pin", pages.pin, name="pin"),
    path("runs/<uuid:run_id>/state.json", pictures.State.as_view(), name="state"),
    path("runs/<uuid:run_id>/drift.json", pictures.Drift.as_view(), name="drift"),
    path("runs/<uuid:run_id>/equity.json", pictures.Equity.as_view(), name="equity"),
    path("runs/<uuid:run_id>/candles.json", pictures.CandlesAndTrades.as_view(), name="candles"),
    path("runs/<uuid:run_id>/heat.json", pictures.Heat.as_view(), name="heat"),
]
