"""TradingView's URLs, under /api/v1/udf/."""

from __future__ import annotations

from django.urls import path

from market import udf

app_name = "udf"
urlpatterns = [
    path("config", udf.Config.as_view(), name="config"),
    path("symbols", udf.Symbols.as_view(), name="symbols"),
    path("search", udf.Search.as_view(), name="search"),
    path("history", udf.History.as_view(), name="history"),
    path("time", udf.Time.as_view(), name="time"),
]
