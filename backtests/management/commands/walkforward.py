"""``manage.py walkforward --train-days 90 --test-days 30 …``, and the options of `tune`."""

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
from backtests.wfo_order import WfoOrder
from ingestion.moment import ACCEPTED
from market.management import away

COLUMNS = {
    "score": lambda row: decimal(row["score"]),
    "coverage": lambda row: percent(row["coverage"]),
    "mean": lambda row: decimal(row["mean_oos"]),
    "stdev": lambda row: decimal(row["stdev_oos"]),
    "worst fold": lambda row: decimal(row["worst_fold_oos"]),
}
FOLDS = {
    "fold": lambda row: str(row["number"]),
    "test from": lambda row: str(row["test"][0][:10]),
    "to": lambda row: str(row["test"][1][:10]),
    "in sample": lambda row: decimal(row["in_sample"]),
    "out of sample": lambda row: decimal(row["out_of_sample"]),
    "return": lambda row: percent(row["metrics"]["return_ratio"]),
}


class Command(BaseCommand):
    help = "Choose parameters fold by fold, and see what came of them right after."

    def add_arguments(self, parser: ArgumentParser) -> None:
        run_options.add(parser)
        parser.add_argument("--train-days", type=int, required=True, help="to choose on")
        parser.add_argument("--test-days", type=int, required=True, help="right after it")
        parser.add_argument("--step-days", type=int, help="to the next fold; default: test days")
        parser.add_argument("--min-folds", type=int, default=3, help="default: 3")
        parser.add_argument("--top", type=int, default=10, help="of a fold's best; default: 10")
        parser.add_argument(
            "--allow-partial", action="store_true", help="go on without folds that failed"
        )
        parser.add_argument("--folds-from", metavar="TIME", help=f"default: --from; {ACCEPTED}")
        parser.add_argument("--folds-to", metavar="TIME", help="default: --to")

    @away.said()
    def handle(self, **options: Any) -> None:
        now_ms = run_options.settled_now_ms(
            options["timeframe"], clock_ms=time.time_ns() // 1_000_000
        )
        try:
            payload = run_options.payload(options, now_ms=now_ms)
            order = WfoOrder.parse(payload | {"wfo_config": _config(options, now_ms)})
        except OrderError as error:
            raise CommandError(run_options.told(error)) from error
        job = run_report.carry_out(
            Order(
                type=JobType.WFO,
                payload=order.payload(),
                workspace_id=order.tune.workspace_id,
            ),
            queue=options["queue"],
        )
        self._report(job)

    def _report(self, job: Job) -> None:
        result: Mapping[str, Any] = job.result or {}
        shown = run_report.console(self.stdout)
        folds = [fold | {"params": fold["winner"]} for fold in result["folds"]]
        self.stdout.write("the winner of each fold, on the days after it was chosen")
        shown.print(run_report.table(folds, FOLDS))
        self.stdout.write(
            f"{result['strategy_id']} by {result['objective']}: {len(result['top'])} of "
            f"{result['candidate_count']} candidates were among the best of enough folds"
        )
        if result["top"]:
            shown.print(run_report.table(result["top"], COLUMNS))
        metrics = result["out_of_sample"]["metrics"]
        self.stdout.write(
            f"who followed it: return {percent(metrics['return_ratio'])}, sharpe "
            f"{decimal(metrics['sharpe'])}, max drawdown {percent(metrics['max_drawdown_ratio'])}"
        )
        for number, why in result["left_out"].items():
            self.stdout.write(f"left out: fold {number}: {why}")
        if result["drift"]:
            self.stdout.write(result["drift"])
        run_report.say_where(job, self.stdout)


def _config(options: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    config = {
        "train_days": options["train_days"],
        "test_days": options["test_days"],
        "min_folds": options["min_folds"],
        "leaderboard_top_k": options["top"],
        "allow_partial": options["allow_partial"],
    }
    if options["step_days"] is not None:
        config["step_days"] = options["step_days"]
    for field, option in (("start_ts", "folds_from"), ("end_ts", "folds_to")):
        if options[option] is not None:
            flag = f"--{option.replace('_', '-')}"
            config[field] = run_options.moment(options[option], flag, now_ms=now_ms)
    return config
