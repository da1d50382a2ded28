"""docker-compose.yml, checked as far as that goes without an engine."""

import json
import re
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands
from django.urls import resolve
from uvicorn import Config

from config.celery import app
from config.stack import programs
from prices.live import sockets
from prices.live.protocol import Frames

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: it for name, it in SERVICES.items() if it["image"] == "token-price-oracle"}


def words(service: str) -> list[str]:
    return [str(word) for word in SERVICES[service]["command"]]


@pytest.mark.parametrize("name", set(SERVICES) - {"setup"})
def test_a_service_that_stays_is_checked_and_restarted(name):
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_setup_runs_once_and_the_others_wait_for_it():
    assert SERVICES["setup"]["restart"] == "no"
    waiting = {
        name
        for name, service in OURS.items()
        if service["depends_on"].get("setup") == {"condition": "service_completed_successfully"}
    }
    assert waiting == set(OURS) - {"setup"}


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name):
    image = SERVICES[name]["image"]
    assert image == "token-price-oracle" or re.fullmatch(r"[a-z/]+:v?\d+\.\d+[\w.-]*", image)


def test_the_web_server_takes_the_same_messages_everywhere(tmp_path):
    command = words("web")
    assert f"--ws-max-size={programs.WS_MAX_BYTES}" in command
    assert "--ws=prices.live.protocol:Frames" in command
    made = Config("config.asgi:application", ws="prices.live.protocol:Frames")
    made.load()
    assert made.ws_protocol_class is Frames
    # What is a little too large is still read, and told so.
    assert sockets.MAX_MESSAGE_BYTES < programs.WS_MAX_BYTES <= 4 * sockets.MAX_MESSAGE_BYTES


def test_each_queue_has_a_worker():
    served = {words(name)[words(name).index("-Q") + 1] for name in OURS if "-Q" in words(name)}
    assert served == {route["queue"] for route in app.conf.task_routes.values()}


def test_commands_exist():
    assert words("setup")[:2] == ["python", "manage.py"]
    assert words("setup")[2] in get_commands()
    assert words("web")[1] == "config.asgi:application"
    assert (ROOT / "config" / "asgi.py").exists()
    assert words("beat")[:4] == ["celery", "-A", "config", "beat"]


def test_the_health_check_of_the_web_server_asks_what_there_is():
    path = re.search(r"http://127\.0\.0\.1:8000(\S+?)\"", str(SERVICES["web"]["healthcheck"]))
    assert path is not None
    resolve(path[1])  # or Resolver404


def test_no_secret_stands_in_the_file():
    required = {"SECRET_KEY", "POSTGRES_PASSWORD", "ADMIN_PASSWORD", "GRAFANA_PASSWORD"}
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("SECRET|PASSWORD|TOKEN", name):
                assert str(value).startswith("${"), name
    text = (ROOT / "docker-compose.yml").read_text()
    assert {name for name in required if f"${{{name}:?" in text} == required


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_in_production_and_share_their_metrics(name):
    environment = OURS[name]["environment"]
    assert environment["ENVIRONMENT"] == "production"
    assert f"metrics:{environment['PROMETHEUS_MULTIPROC_DIR']}" in OURS[name]["volumes"]


def test_volumes_and_mounted_files_exist():
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source


def test_the_image_gets_what_the_image_needs():
    docker = (ROOT / "docker" / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
    assert "USER oracle" in docker


def test_prometheus_asks_the_web_server():
    config = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["web:8000"]}]
    assert OURS["web"]["environment"]["ALLOWED_HOSTS"].endswith(",web")


def test_the_dashboard_asks_for_metrics_that_there_are():
    board = json.loads((ROOT / "docker/grafana/dashboards/oracle.json").read_text())
    asked = set(re.findall(r"oracle_[a-z_]+", " ".join(_expressions(board))))
    made = "".join((ROOT / path).read_text() for path in ("oracle/metrics.py", "config/scrape.py"))
    suffix = r"_(total|bucket|sum|count)$"
    assert {name for name in asked if f'"{re.sub(suffix, "", name)}"' not in made} == set()


def _expressions(board):
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]
