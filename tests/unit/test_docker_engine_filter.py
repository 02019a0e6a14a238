"""plugins/filter/docker_engine.py: when the engine is reloaded or restarted, and what the client's file holds."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from plugins.filter.docker_engine import docker_client_config, docker_service_state

OPTIONS: dict[str, Any] = {"live-restore": True, "log-opts": {"max-size": "10m"}, "registry-mirrors": []}


def slurped(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_the_same_configuration_leaves_the_engine_alone() -> None:
    assert docker_service_state(slurped(OPTIONS), OPTIONS) == "started"


@pytest.mark.parametrize(
    "change",
    [
        {"registry-mirrors": ["https://mirror.example.com"]},
        {"insecure-registries": ["registry.example.com:5000"]},
        {"live-restore": False, "max-concurrent-downloads": 10},
    ],
)
def test_keys_that_a_running_engine_takes_over_are_reloaded(change: dict[str, Any]) -> None:
    assert docker_service_state(slurped(OPTIONS), OPTIONS | change) == "reloaded"


@pytest.mark.parametrize(
    "change",
    [
        {"log-opts": {"max-size": "5m"}},
        {"userland-proxy": False},
        {"registry-mirrors": ["https://mirror.example.com"], "userland-proxy": False},
    ],
)
def test_any_other_key_restarts_the_engine(change: dict[str, Any]) -> None:
    assert docker_service_state(slurped(OPTIONS), OPTIONS | change) == "restarted"


def test_a_vanished_key_restarts_the_engine_because_a_reload_would_keep_its_value() -> None:
    after = {key: value for key, value in OPTIONS.items() if key != "registry-mirrors"}
    assert docker_service_state(slurped(OPTIONS), after) == "restarted"


@pytest.mark.parametrize("before", [None, "", slurped([]), slurped(None), "bm90IGpzb24=", "/w==", "not base64"])
def test_no_readable_configuration_before_restarts_the_engine(before: str | None) -> None:
    assert docker_service_state(before, OPTIONS) == "restarted"


def test_a_login_is_what_docker_login_would_have_written() -> None:
    login = {"registry": "registry.example.com:5000", "username": "flotilla", "password": "pä:ss$word"}
    auths = docker_client_config([login])["auths"]
    assert list(auths) == ["registry.example.com:5000"]
    assert base64.b64decode(auths["registry.example.com:5000"]["auth"]).decode() == "flotilla:pä:ss$word"


@pytest.mark.parametrize("name", ["docker.io", "index.docker.io"])
def test_docker_hub_goes_by_the_address_that_the_client_looks_up(name: str) -> None:
    login = {"registry": name, "username": "flotilla", "password": "secret"}
    assert list(docker_client_config([login])["auths"]) == ["https://index.docker.io/v1/"]


def test_no_logins_leave_a_file_without_any() -> None:
    assert docker_client_config([]) == {"auths": {}}
