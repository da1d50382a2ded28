"""``manage.py tune --strategy sma_cross --symbol BTC/USDT --from -90d --param fast=5:50:5 …``.

Works in this process, or with ``--queue`` leaves it to the workers and watches. Ctrl-C cancels it.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from backtests import run_options, run_report
from backtests.fields import OrderError
from backtests.job_orders import Order
from backtests.models import Job, JobType
from backtests.run_report import decimal, percent
from backtests.tune_order import TuneOrder
from market.management import away

COLUMNS = {
    "score": lambda row: decimal(row["score"]),
    "return": lambda row: percent(row["metrics"]["return_ratio"]),
    "sharpe": lambda row: decimal(row["metrics"]["sharpe"]),
    "max drawdown": lambda row: percent(row["metrics"]["max_drawdown_ratio"]),
    "trades": lambda row: str(row["metrics"]["trade_count"]),
}


class Command(BaseCommand):
    help = "Search the parameters of a strategy that did best on a range of candles."

    def add_arguments(self, parser: ArgumentParser) -> None:
        run_options.add(parser)
        parser.add_argument(
            "--oos-ratio", type=float, default=0.3, help="share out of sample; default: 0.3"
        )

    @away.said()
    def handle(self, **options: Any) -> None:
        try:
            now_ms = run_options.settled_now_ms(
                options["timeframe"], clock_ms=time.time_ns() // 1_000_000
            )
            payload = run_options.payload(options, now_ms=now_ms)
            order = TuneOrder.parse(payload | {"oos_ratio": options["oos_ratio"]})
        except OrderError as error:
            raise CommandError(run_options.told(error)) from error
        job = run_report.carry_out(
            Order(type=JobType.TUNE, payload=order.payload(), workspace_id=order.workspace_id),
            queue=options["queue"],
        )
        self._report(job)

    def _report(self, job: Job) -> None:
        result: Mapping[str, Any] = job.result or {}
        trials, best = result["trials"], result["best"]
        self.stdout.write(
            f"{result['strategy_id']} by {result['objective']}, in sample: "
            f"{trials['passed_count']} of {trials['count']} trials passed the gates"
        )
        shown = run_report.console(self.stdout)
        shown.print(run_report.table(result["top"], COLUMNS))
        self.stdout.write("the best of them, out of sample")
        outside = {"params": best["params"], **best["out_of_sample"]}
        shown.print(run_report.table([outside], COLUMNS))
        self.stdout.write(f"overfit gap {decimal(result['overfit_gap'])}")
        run_report.say_where(job, self.stdout)
