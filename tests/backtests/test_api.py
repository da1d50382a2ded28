"""The orders of the backtests' API, its strategies and its leaderboard."""

from __future__ import annotations

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from backtests import asked
from backtests.models import Job, LeaderboardEntry
from oracle.jsontext import decode
from tests.backtests.asking import BASE, clerk, error, post, put
from tests.backtests.stored import START_S, tune_payload

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("artifacts_dir")]

WFO = {"wfo_config": {"train_days": 10, "test_days": 5}}


@pytest.fixture
def staff() -> Client:
    return clerk()


# --- orders ---


def test_tune_is_a_pending_job_with_every_default_spelled_out(staff: Client):
    answer = post(staff, f"{BASE}/tune", tune_payload(workspace_id="lab"))

    job = Job.objects.get()
    assert (answer.status_code, decode(answer.content)) == (
        202,
        {"run_id": str(job.pk), "status": "pending"},
    )
    assert answer["Location"] == f"{BASE}/runs/{job.pk}"
    assert (job.type, job.workspace_id, job.payload["oos_ratio"]) == ("tune", "lab", 0.3)


def test_wfo_is_a_pending_job(staff: Client):
    assert post(staff, f"{BASE}/wfo", tune_payload(900) | WFO).status_code == 202
    job = Job.objects.get()
    assert (job.type, job.payload["wfo_config"]["min_folds"]) == ("wfo", 3)


DATA = tune_payload()["data_config"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"strategy_id": "nope"}, "strategy_id"),
        ({"strategy_id": 1}, "strategy_id"),
        ({"param_space": {}}, "param_space"),
        ({"param_space": {"nope": [1]}}, "param_space"),
        ({"param_space": {"fast": []}}, "param_space"),
        ({"param_space": []}, "param_space"),
        ({"objective": "luck"}, "objective"),
        ({"gates": {"max_drawdown": 20}}, "gates"),
        ({"gates": None}, "gates"),
        ({"oos_ratio": "half"}, "oos_ratio"),
        ({"oos_ratio": True}, "oos_ratio"),
        ({"seed": 1.5}, "seed"),
        ({"max_trials": 0}, "max_trials"),
        ({"workspace_id": "../etc"}, "workspace_id"),
        ({"data_config": None}, "data_config"),
        ({"data_config": DATA | {"end_ts": START_S}}, "data_config.start_ts"),
        ({"data_config": DATA | {"timeframe": "7m"}}, "data_config.timeframe"),
        ({"data_config": DATA | {"start_ts": START_S * 1_000}}, "data_config.start_ts"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_tune_wrong_field_is_named(staff: Client, changes: dict[str, Any], field: str):
    told = error(post(staff, f"{BASE}/tune", tune_payload() | changes))

    assert (told["status"], told["code"], told["details"]) == (
        400,
        "INVALID_PARAMETER",
        {"field": field},
    )
    assert told["message"].startswith(f"{field}: ")
    assert not Job.objects.exists()


def test_wfo_too_few_folds_says_how_many(staff: Client):
    told = error(post(staff, f"{BASE}/wfo", tune_payload(500) | WFO))
    assert (told["status"], told["details"]) == (400, {"field": "wfo_config"})


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "[" * 100_000,
        '{"a":' * 900 + "1" + "}" * 900,
        '{"seed": 1e999}',
        '{"seed": NaN}',
        '{"seed": ' + "9" * 5_000 + "}",
        '{"workspace_id": "a\\u0000b"}',
        '{"a\\u0000b": 1}',
        '{"param_space": {"fast": [1, {"min": ["\\u0000"]}]}}',
        '{"workspace_id": "\\ud800"}',
        b'{"workspace_id": "\xff"}',
    ],
)
def test_tune_unreadable_body_is_400(staff: Client, body: str | bytes):
    assert error(post(staff, f"{BASE}/tune", body))["status"] == 400


@pytest.mark.parametrize("path", ["tune", "wfo"])
def test_post_of_10_mb_is_refused_before_it_is_parsed(
    staff: Client, path: str, monkeypatch: pytest.MonkeyPatch
):
    def parsed(*_: Any, **__: Any) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr("rest_framework.parsers.JSONParser.parse", parsed)
    body = json.dumps({"param_space": "x" * 10_000_000})

    told = error(post(staff, f"{BASE}/{path}", body))

    assert (told["status"], told["code"]) == (413, "TOO_LARGE")
    assert "1048576" in told["message"]


def test_post_of_10_mb_is_refused_before_a_byte_is_read(staff: Client):
    class Unread(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError("it was read")

    extra: dict[str, Any] = {"CONTENT_LENGTH": "10000000", "wsgi.input": Unread()}
    answer = staff.generic("POST", f"{BASE}/tune", content_type="application/json", **extra)
    assert (answer.status_code, error(answer)["code"]) == (413, "TOO_LARGE")


def test_body_in_chunks_is_refused_and_not_taken_for_none(staff: Client):
    answer = staff.generic(
        "POST",
        f"{BASE}/tune",
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
    )
    assert (answer.status_code, error(answer)["code"]) == (411, "LENGTH_REQUIRED")


@pytest.mark.parametrize("length", ["x", "9" * 5_000])
def test_body_whose_length_is_no_number_is_400(length: str):
    extra: dict[str, Any] = {"CONTENT_LENGTH": length}
    request = RequestFactory().generic("POST", "/", "{}", "application/json", **extra)
    with pytest.raises(ParseError, match="must be a number of bytes"):
        asked.body(Request(request))


def test_tune_text_that_spells_out_a_nul_holds_none(staff: Client):
    told = error(post(staff, f"{BASE}/tune", tune_payload(workspace_id="a\\u0000b")))
    assert told["details"] == {"field": "workspace_id"}


def test_post_of_a_form_is_refused(staff: Client):
    answer = staff.post(f"{BASE}/tune", {"strategy_id": "sma_cross"})
    assert error(answer)["code"] == "UNSUPPORTED_MEDIA_TYPE"


# --- idempotency ---


def test_same_key_is_answered_the_same_run(staff: Client):
    first = post(staff, f"{BASE}/tune", tune_payload(), **{"X-Idempotency-Key": "k"})
    mixed = dict(reversed(tune_payload().items()))
    second = post(staff, f"{BASE}/tune", mixed, **{"X-Idempotency-Key": "k"})
    assert (second.status_code, second.content) == (202, first.content)
    assert Job.objects.count() == 1


def test_same_key_other_body_is_409(staff: Client):
    post(staff, f"{BASE}/tune", tune_payload(), **{"X-Idempotency-Key": "k"})
    told = error(post(staff, f"{BASE}/tune", tune_payload(seed=1), **{"X-Idempotency-Key": "k"}))
    assert (told["status"], told["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert Job.objects.count() == 1


def test_same_key_of_another_endpoint_is_another_run(staff: Client):
    post(staff, f"{BASE}/tune", tune_payload(), **{"X-Idempotency-Key": "k"})
    answer = post(staff, f"{BASE}/wfo", tune_payload(900) | WFO, **{"X-Idempotency-Key": "k"})
    assert (answer.status_code, Job.objects.count()) == (202, 2)


@pytest.mark.parametrize("key", ["", "k" * 201, "é"])
def test_key_that_is_none_is_named(staff: Client, key: str):
    told = error(post(staff, f"{BASE}/tune", tune_payload(), **{"X-Idempotency-Key": key}))
    assert (told["status"], told["details"]["field"]) == (400, "X-Idempotency-Key")


@pytest.mark.django_db(transaction=True)
def test_same_key_at_once_is_one_job(staff: Client):
    def order(_: int) -> tuple[int, Any]:
        try:
            answer = post(staff, f"{BASE}/tune", tune_payload(), **{"X-Idempotency-Key": "k"})
            return answer.status_code, decode(answer.content)["run_id"]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(order, range(16)))

    assert answers == {(202, str(Job.objects.get().pk))}


# --- strategies and the leaderboard ---


def test_strategies_declare_what_they_take(staff: Client):
    body = decode(staff.get(f"{BASE}/strategies").content)
    found = {each["id"]: each for each in body["strategies"]}
    assert body["count"] == len(found) >= 6
    assert found["sma_cross"]["constraints"] == ["fast < slow"]
    assert found["sma_cross"]["parameters"][0] == {
        "name": "fast",
        "type": "int",
        "min": 1,
        "max": 2000,
        "step": 5,
        "default": 10,
    }
    assert "sharpe" in body["objectives"]


@pytest.fixture
def leaders() -> Job:
    job = put(status="succeeded")
    for rank, score in ((1, 1.5), (2, 2.5)):
        LeaderboardEntry.objects.create(
            workspace_id="default",
            job=job,
            rank=rank,
            strategy_id="sma_cross",
            objective="sharpe",
            exchange="index",
            symbol="BTC/USDT",
            timeframe="1h",
            params={"fast": rank, "slow": 20},
            metrics={"out_of_sample": {"sharpe": score}},
            score=score,
        )
    return job


def test_leaderboard_is_best_first(staff: Client, leaders: Job):
    path = f"{BASE}/leaderboard"
    body = decode(staff.get(path).content)
    assert [(float(row["score"]), row["rank_in_run"]) for row in body["leaderboard"]] == [
        (2.5, 2),
        (1.5, 1),
    ]
    assert decode(staff.get(path, {"limit": 1}).content)["count"] == 1
    assert decode(staff.get(path, {"objective": "calmar"}).content)["count"] == 0
    assert decode(staff.get(path, {"workspace_id": "other"}).content)["count"] == 0


def test_leaderboard_tells_a_tune_from_a_walk_forward(staff: Client, leaders: Job):
    Job.objects.filter(pk=leaders.pk).update(type="wfo")
    with CaptureQueriesContext(connection) as queries:
        body = decode(staff.get(f"{BASE}/leaderboard").content)
    assert sum("leaderboard_entry" in each["sql"] for each in queries) == 1
    assert not any('"payload"' in each["sql"] for each in queries)  # nor any of a run's bulk
    assert {row["type"] for row in body["leaderboard"]} == {"wfo"}


def test_leaderboard_as_csv(staff: Client, leaders: Job):
    answer = staff.get(f"{BASE}/leaderboard", headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert [(row["score"], row["param.fast"]) for row in rows] == [("2.5", "2"), ("1.5", "1")]
    assert rows[0]["metric.out_of_sample.sharpe"] == "2.5"


def test_leaderboard_as_csv_error_is_the_one_shape(staff: Client):
    path = f"{BASE}/leaderboard?limit=0"
    answer = staff.get(path, headers={"Accept": "text/csv"})
    assert answer["Content-Type"] == "application/json"
    assert error(answer)["details"]["field"] == "limit"


def test_leaderboard_empty_csv_is_a_header(staff: Client):
    answer = staff.get(f"{BASE}/leaderboard", headers={"Accept": "text/csv"})
    assert answer.content == b"score\n"
