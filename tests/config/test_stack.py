import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from celery.beat import Service
from django.core.exceptions import ImproperlyConfigured
from supervisor.options import ServerOptions

from config.celery import app
from config.stack import StackError, home, options, price, programs, start
from config.stack.options import Options
from ingestion.registry import ADAPTERS
from market import seeding
from oracle import catalog, ticker_book
from oracle.values import ErrorCode
from tests.stack import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def chosen(tmp_path) -> Options:
    (tmp_path / "log").mkdir()
    return Options(
        mode="demo",
        started_ms=0,
        home=tmp_path,
        host="127.0.0.1",
        port=8000,
        simulator_port=8001,
        simulator_seed=7,
        database_url="",
        redis_url="",
    )


# --- options -------------------------------------------------------------------------------------


def test_live_and_simulated_data_have_homes_of_their_own(settings):
    demo, run = (options.read(mode, now_ms=0) for mode in ("demo", "run"))
    assert (demo.home.name, run.home.name) == ("demo", "live")
    assert demo.home.parent == run.home.parent
    assert demo.simulator_port == demo.port + 1
    assert [variable for variable, *_ in demo.ports] == ["PORT", "SIMULATOR_PORT"]
    assert [variable for variable, *_ in run.ports] == ["PORT"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("SIMULATOR_PORT", "x"), ("SIMULATOR_PORT", "70000"), ("SIMULATOR_SEED", "x")],
)
def test_a_bad_option_is_refused_by_its_name(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=name):
        options.read("demo", now_ms=0)


def test_one_port_for_two_servers_is_refused(monkeypatch, settings):
    monkeypatch.setenv("SIMULATOR_PORT", str(settings.PORT))
    with pytest.raises(ImproperlyConfigured, match="PORT and SIMULATOR_PORT are both"):
        options.read("demo", now_ms=0)


# --- home ----------------------------------------------------------------------------------------


def test_a_home_is_for_one_stack(tmp_path):
    code = "import sys, time; from pathlib import Path; from config.stack import home\n"
    code += "home.lock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(StackError, match=rf"runs in .* \(process {other.pid}\)"):
            home.lock(tmp_path)
        other.kill()


def test_a_home_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="set ORACLE_HOME"):
        home.lock(tmp_path / "file" / "home")


def test_a_port_in_use_is_named_with_its_variable(chosen):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(StackError, match=rf"127\.0\.0\.1:{taken}: .*; set SIMULATOR_PORT"):
            home.check_ports(replace(chosen, port=free_port(), simulator_port=taken))
        with pytest.raises(StackError, match=rf"127\.0\.0\.1:{taken}: .*; set PORT"):
            home.check_ports(replace(chosen, port=taken))


def test_an_address_that_is_not_ours_is_told_from_a_port_in_use(chosen):
    with pytest.raises(StackError, match="set HOST"):
        home.check_ports(replace(chosen, host="192.0.2.1"))


def test_the_secret_key_is_made_once_and_for_its_owner_alone(chosen):
    first, second = (home.environment(chosen, {})["SECRET_KEY"] for _ in range(2))
    assert first == second
    assert len(first) >= 32
    for name in ("secret-key", "environment"):
        assert (chosen.home / name).stat().st_mode & 0o777 == 0o600


def test_the_demo_has_simulated_exchanges_and_a_known_admin(chosen):
    demo = home.environment(chosen, {"SECRET_KEY": "given", "PATH": "/bin"})
    assert demo["SIMULATOR_URL"] == "http://127.0.0.1:8001"
    assert demo["ADMIN_PASSWORD"] == "admin"
    assert (demo["SECRET_KEY"], demo["PATH"]) == ("given", "/bin")
    assert home.environment(chosen, {"ADMIN_PASSWORD": "mine"})["ADMIN_PASSWORD"] == "mine"


def test_live_has_neither(chosen):
    live = home.environment(replace(chosen, mode="run"), {"SIMULATOR_URL": "http://x"})
    assert live["SIMULATOR_URL"] == ""
    assert "ADMIN_PASSWORD" not in live


def test_a_shell_gets_the_same_environment(tmp_path, chosen):
    awkward = tmp_path / "it's a home"
    awkward.mkdir()
    ours = home.environment(replace(chosen, home=awkward), {})
    command = '. "$1/environment" && printf %s "$ORACLE_HOME"'
    said = subprocess.run(
        ["sh", "-c", command, "sh", str(awkward)], capture_output=True, text=True, check=True
    )
    assert said.stdout == ours["ORACLE_HOME"] == str(awkward)


def test_the_figures_of_the_last_run_are_gone(chosen):
    metrics = chosen.home / "metrics"
    metrics.mkdir()
    (metrics / "counter_1.db").touch()
    home.prepare(replace(chosen, database_url="postgresql://elsewhere/oracle"))
    assert list(metrics.iterdir()) == []


# --- programs ------------------------------------------------------------------------------------


def _understood(chosen: Options) -> dict[str, dict[str, list[str]]]:
    """What supervisord itself reads from the configuration: group → program → arguments."""
    supervisord = ServerOptions()
    supervisord.realize(["-c", str(programs.write_configuration(chosen))])
    return {
        group.name: {
            process.name: process.make_process(group).get_execv_args()[1]
            if Path(process.command.split()[0].strip("'")).exists()
            else []
            for process in group.process_configs
        }
        for group in supervisord.process_group_configs
    }


def test_supervisord_reads_the_commands_as_they_were_meant(tmp_path, chosen):
    awkward = tmp_path / 'it\'s a "home"'
    (awkward / "log").mkdir(parents=True)
    chosen = replace(chosen, home=awkward)
    understood = _understood(chosen)
    meant = {program.name: list(program.command) for program in programs.programs(chosen)}
    assert {name: args for group in understood.values() for name, args in group.items()} == meant


def test_databases_stop_last(chosen):
    supervisord = ServerOptions()
    supervisord.realize(["-c", str(programs.write_configuration(chosen))])
    groups = sorted(supervisord.process_group_configs, key=lambda group: group.priority)
    assert [group.name for group in groups] == ["databases", "oracle"]
    assert {process.name for process in groups[0].process_configs} == {"postgres", "redis"}


def test_servers_that_are_given_are_not_started(chosen):
    given = replace(chosen, database_url="postgresql://h/o", redis_url="redis://h/0")
    assert set(_understood(given)) == {"oracle"}


def test_only_the_demo_has_a_simulator(chosen):
    assert "simulator" in _understood(chosen)["oracle"]
    assert "simulator" not in _understood(replace(chosen, mode="run"))["oracle"]


def test_each_queue_has_a_worker(chosen):
    queues = {route["queue"] for route in app.conf.task_routes.values()}
    commands = [program.command for program in programs.programs(chosen)]
    served = {
        queue
        for command in commands
        if "config.stack.worker" in command
        for queue in command[-2].split(",")
    }
    if any("config.stack.price" in command for command in commands):
        served.add("price")
    assert served == queues | {app.conf.task_default_queue}


def test_the_index_and_beat_need_no_models():
    script = (
        "import sys; from config.stack import price; price.load(); from config.celery import app;"
        "assert 'prices.update_index' in app.tasks, sorted(app.tasks);"
        "assert not {'django.db.models', 'rich'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("role", "stand_in"),
    [
        (
            "collect",
            "from ingestion.management.commands import collect\n"
            "async def run(names): print(*sorted(names))\n"
            "collect.collect = run\n",
        ),
        (
            "aggregate",
            "from prices.management.commands import aggregate\n"
            "aggregate.run = lambda aggregator, stop: print(type(aggregator).__name__)\n",
        ),
    ],
)
def test_a_role_runs_without_models(role, stand_in):
    script = (
        f"import sys; sys.argv.append({role!r})\nfrom config.stack import role\n{stand_in}"
        "role.main()\nassert not {'django.db.models', 'celery', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.split() == {"collect": sorted(ADAPTERS), "aggregate": ["Aggregator"]}[role]


def test_a_beat_that_fails_ends_its_process(monkeypatch):
    def broken():
        raise OSError("no space left on device")

    beat = Service(app)
    monkeypatch.setattr(beat, "start", broken)
    ended = []
    monkeypatch.setattr(os, "kill", lambda pid, number: ended.append((pid, number)))

    with pytest.raises(OSError, match="no space"):
        price.send(beat)

    assert ended == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize("name", ["a #1", "a ;b", "100%"])
def test_a_path_that_supervisord_would_misread_is_refused(name, chosen):
    with pytest.raises(StackError, match="supervisord cannot be told of the path"):
        programs.configuration(replace(chosen, home=chosen.home / name))


# --- start ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("simulated", "world"), [(True, "simulated"), (False, "live")])
def test_the_first_line_says_where_to_look(simulated, world, settings):
    settings.SIMULATED, settings.PORT, settings.ADMIN_PASSWORD = simulated, 8123, "admin"
    line = start.greeting(answers=True)
    assert line.startswith(f"Token Price Oracle ({world}): http://localhost:8123/")
    assert ("admin: admin / admin" in line) is simulated
    assert "does not answer" in start.greeting(answers=False)


@pytest.mark.django_db
def test_without_prices_each_exchange_is_explained_with_its_last_error():
    seeding.seed(["BTC/USDT"])
    from market.catalog import load

    catalog.publish(load())
    names = load().exchanges
    for name in names:
        ticker_book.record_failure(name, code=ErrorCode.TIMEOUT, detail="2 s", now_ms=20_000)
    lines = start.explanation(15.2, since_ms=10_000)
    assert lines[0] == "No price yet after 15 s: no exchange could be reached. Still trying."
    assert lines[1:] == [f"  {name}: {ErrorCode.TIMEOUT} 2 s" for name in names]


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"PORT": "x"}, "PORT"),
        ({"ORACLE_HOME": "/dev/null"}, "set ORACLE_HOME"),
        ({"HOST": "192.0.2.1"}, "set HOST"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(wrong, complaint, tmp_path):
    keep = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-m", "config.stack", "demo"],
        cwd=ROOT,
        env={**keep, "ORACLE_HOME": str(tmp_path), "PORT": str(free_port()), **wrong},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("make demo: ")
    assert complaint in line


def test_the_web_server_takes_no_message_that_is_far_too_large(chosen):
    (web,) = [one for one in programs.programs(chosen) if one.name == "web"]
    options = " ".join(web.command)
    assert f"--ws-max-size {programs.WS_MAX_BYTES} --ws prices.live.protocol:Frames" in options
