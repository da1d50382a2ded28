"""README.md: what it tells people to type is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from uuid import UUID

import pytest
from django.core.management import get_commands, load_command_class
from django.urls import resolve

from config import edge_schema

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"manage\.py ([a-z]+)", README)))
TYPED = sorted(set(re.findall(r"manage\.py ([a-z]+ [^`\n|#]*)", README)))
PATHS = sorted(
    {
        *re.findall(r"localhost:8000(/[^\s\"')>?]*)", README),
        *re.findall(r"`(?:GET |POST )?(/[a-z][^`\s]*)`", README),
    }
    # The edge answers the first, and TradingView asks below the other.
    - {*edge_schema.PATHS, "/api/v1/udf"}
)


@pytest.mark.parametrize("name", COMMANDS)
def test_readme_commands_are_there(name):
    assert name in get_commands()


@pytest.mark.parametrize("typed", TYPED)
def test_readme_commands_take_what_they_are_given(typed):
    name, *arguments = shlex.split(typed)
    command = load_command_class(get_commands()[name], name)

    command.create_parser("manage.py", name).parse_args(arguments)  # or CommandError


@pytest.mark.parametrize("path", PATHS)
def test_readme_paths_are_answered(path):
    resolve(path.replace("{run_id}", str(UUID(int=0))))  # or Resolver404


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)", README))))
def test_readme_targets_of_make_are_there(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_readme_is_read():
    """The patterns above find what they are for."""
    assert {"backfill", "export", "parse", "prices"} <= {typed.split()[0] for typed in TYPED}
    assert {"/", "/api/v1/prices/btc-usdt", "/admin/data/status", "/metrics"} <= set(PATHS)
