"""docker-compose.yml, checked as far as that goes without an engine."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from django.urls import resolve
from prometheus_client import REGISTRY
from uvicorn import Config

from config.celery import app
from config.management.commands.health import MAX_SILENCE_MS
from config.scrape import RedisCollector
from config.stack import programs
from config.stack.role import ROLES
from prices.live import sockets
from prices.live.protocol import Frames

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
BOARD = json.loads((ROOT / "docker/grafana/dashboards/oracle.json").read_text())
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
    assert {words(role)[2] for role in ROLES} <= set(get_commands())


def test_roles_are_those_of_the_local_stack_and_checked_by_their_own_work():
    assert {name for name in OURS if "manage.py" in words(name)} - {"setup"} == set(ROLES)
    for role in ROLES:
        assert words(role) == ["python", "manage.py", role]
        check = SERVICES[role]["healthcheck"]["test"]
        assert check == ["CMD", "python", "manage.py", "health", "--role", role]
        assert role in MAX_SILENCE_MS


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


def test_the_dashboard_shows_every_metric_by_labels_that_it_has():
    made = _metrics()
    asked = {
        re.sub(r"_(total|bucket)$", "", name): set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        for panel in BOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"oracle_[a-z_]+", target["expr"])
    }

    assert asked.keys() == made.keys()
    assert {name: labels for name, labels in asked.items() if not labels <= made[name]} == {}


def _metrics():
    """The labels of every metric of ours: those of all processes, and what the endpoint makes."""
    app.loader.import_default_modules()
    importlib.import_module("config.asgi")
    importlib.import_module("prices.management.commands.aggregate")
    gauges: list[Any] = list(RedisCollector().collect())
    counters: dict[str, Any] = dict(REGISTRY._names_to_collectors)
    return {gauge.name: set(gauge._labelnames) for gauge in gauges} | {
        name: set(counter._labelnames)
        for name, counter in counters.items()
        if name.startswith("oracle_") and name == counter._name  # and not one of its series
    }


def test_panels_do_not_lie_on_each_other():
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(taken) == len(set(taken))
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(places)
