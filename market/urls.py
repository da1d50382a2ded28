"""The market's URLs, under /api/v1/market/."""

from __future__ import annotations

from django.urls import path

from market import api, download

app_name = "market"
urlpatterns = [
    path("symbols", api.Symbols.as_view(), name="symbols"),
    path("ticker", api.Ticker.as_view(), name="ticker"),
    path("ohlcv", api.Ohlcv.as_view(), name="ohlcv"),
    path("ohlcv.csv", download.OhlcvCsv.as_view(), name="ohlcv-csv"),
]
