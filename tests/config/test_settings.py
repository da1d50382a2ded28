import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOOD = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "k" * 50,
    "DATABASE_URL": "postgresql://oracle@localhost/oracle",
    "REDIS_URL": "redis://localhost/0",
}


def load(tmp_path, **environment):
    """Load the settings in a process of their own; what they complain of, or nothing."""
    done = subprocess.run(
        [sys.executable, "-c", "import config.settings"],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "ORACLE_HOME": str(tmp_path),
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def test_production_starts_with_secrets_of_its_own(tmp_path):
    assert load(tmp_path, **GOOD) == ""


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"DEBUG": "true"}, "DEBUG"),
        ({"ADMIN_PASSWORD": "admin"}, "ADMIN_PASSWORD"),
        ({"ADMIN_TOKEN": "short"}, "ADMIN_TOKEN"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"DATABASE_URL": "mysql://localhost/oracle"}, "DATABASE_URL"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL"),
        ({"PORT": "http"}, "PORT"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        ({"LEASE_HEARTBEAT_MS": "20000"}, "LEASE_HEARTBEAT_MS"),
        ({"STREAMS_PER_ADDRESS": "0"}, "STREAMS_PER_ADDRESS"),
        ({"STREAM_MESSAGES_PER_MINUTE": "many"}, "STREAM_MESSAGES_PER_MINUTE"),
        ({"TASK_STATEMENT_TIMEOUT_MS": "5000"}, "TASK_STATEMENT_TIMEOUT_MS"),
        ({"BACKTEST_THREADS": "0"}, "BACKTEST_THREADS"),
        ({"ARTIFACTS_KEEP_DAYS": "-1"}, "ARTIFACTS_KEEP_DAYS"),
        ({"OKX_WS_URL": "https://okx.test"}, "OKX_WS_URL"),
        ({"OKX_WS_URL": "okx.test"}, "OKX_WS_URL"),
        ({"KRAKEN_REST_URL": "kraken.test"}, "KRAKEN_REST_URL"),
        ({"TIMESCALEDB": "yes"}, "TIMESCALEDB"),
        ({"CHUNK_DAYS": "0"}, "CHUNK_DAYS"),
        ({"RETENTION_DAYS": "1"}, "RETENTION_DAYS"),
    ],
)
def test_production_refuses(wrong, complaint, tmp_path):
    assert complaint in load(tmp_path, **GOOD | wrong)


def test_the_example_names_every_variable_that_is_read():
    from config import settings

    code = "".join(path.read_text() for path in (ROOT / "config" / "settings").glob("*.py"))
    code += (ROOT / "config" / "stack" / "options.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', code))
    read |= {f"{name.upper()}_REST_URL" for name in settings.EXCHANGE_REST_URLS}
    read |= {f"{name.upper()}_WS_URL" for name in settings.EXCHANGE_WS_URLS}
    compose = (ROOT / "docker-compose.yml").read_text()
    substituted = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", compose))
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) == read | substituted


def test_the_example_names_the_defaults(tmp_path):
    example = (ROOT / ".env.example").read_text()
    told = dict(re.findall(r"^#([A-Z_]+)=(.+)$", example, re.MULTILINE))

    assert read(tmp_path, **told) == read(tmp_path)


def read(tmp_path, **environment):
    """What a process with this environment reads of it: settings, and the options of a stack."""
    code = (
        "from config import settings; from config.stack import options\n"
        "print({name: repr(getattr(settings, name)) for name in dir(settings) if name.isupper()})\n"
        "print([options.read(mode, now_ms=0) for mode in ('demo', 'run')])"
    )
    metrics = {"PATH": os.environ["PATH"], "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | metrics,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()
