"""The prices' URLs, under /api/v1/."""

from __future__ import annotations

from django.urls import path

from prices import api

app_name = "prices"
urlpatterns = [
    path("prices", api.Prices.as_view(), name="all"),
    path("prices/<str:slug>", api.OnePrice.as_view(), name="one"),
    path("prices/<str:slug>/sources", api.Receipt.as_view(), name="receipt"),
    path("prices/<str:slug>/change", api.PriceChange.as_view(), name="change"),
    path("prices/<str:slug>/history", api.PriceHistory.as_view(), name="history"),
]
