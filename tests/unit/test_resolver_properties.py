"""What holds for any file: the same answer twice, no host port, no open dollar, no name of one container."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flotilla.resolve import ROUTER, ComposeFileError, Context, Resolved, environment_problems, fingerprint, resolve
from flotilla.resolve.values import escape, seconds, size, unescape
from hypothesis import given
from hypothesis import strategies as st

_OURS = r"\{FLOTILLA_(?:COLOUR|RELEASE|HOST|MEMORY|ROUTER_ADDRESS|ADDRESS_\d+)\}"
OPEN_DOLLAR = re.compile(rf"(?<!\$)(?:\$\$)*\$(?!\$|{_OURS})")

names = st.sampled_from(["web", "api", "db", "work", "job", "a.b", "C-3"])
texts = st.text(alphabet="ab$\\{}'\"# \n%é", max_size=12)
keys = st.sampled_from(["A", "B", "PASSWORD"])
volumes = st.one_of(
    st.builds(
        lambda s, ro: {"type": "bind", "source": s, "target": "/d", "read_only": ro},
        st.sampled_from(["/srv/notes/conf", "/srv/notes/up", "/etc/localtime", "/srv/notes/a$$b"]),
        st.booleans(),
    ),
    st.just({"type": "volume", "source": "files", "target": "/v", "volume": {}}),
    st.just({"type": "volume", "target": "/anonymous"}),
)
services = st.fixed_dictionaries(
    {"image": st.sampled_from(["team/app:1", "postgres:17", "redis:7", "registry.example.com/x/y:2"])},
    optional={
        "command": st.lists(texts, max_size=3),
        "environment": st.dictionaries(keys, st.one_of(st.none(), texts), max_size=3),
        "labels": st.dictionaries(keys, texts, max_size=2),
        "container_name": st.just("one"),
        "restart": st.sampled_from(["no", "always", "on-failure"]),
        "ports": st.sampled_from([[], [], [], [], [], [], [], [{"target": 80, "published": "80"}]]),
        "volumes": st.lists(volumes, max_size=3),
        "networks": st.sampled_from([{"default": None}, {"back": {"aliases": ["x"]}}]),
        "depends_on": st.dictionaries(names, st.just({"condition": "service_started", "required": False}), max_size=2),
        "profiles": st.just(["dev"]),
        "healthcheck": st.builds(lambda test: {"test": ["CMD-SHELL", test]}, texts),
        "mem_limit": st.integers(1, 2**40).map(str),
        "deploy": st.builds(lambda n: {"replicas": n, "restart_policy": {"condition": "any"}}, st.integers(0, 5)),
        "user": st.sampled_from(["1000", "0:0"]),
        "cap_drop": st.sampled_from([[], ["ALL"], ["NET_RAW"]]),
        "cap_add": st.sampled_from([["CHOWN"], ["CHOWN"], ["CHOWN"], ["SYS_ADMIN"]]),
        "security_opt": st.lists(st.sampled_from(["no-new-privileges:false", "label:user:x"]), max_size=2),
        "read_only": st.booleans(),
        "tmpfs": st.sampled_from([["/run"], ["/tmp:mode=1777"]]),
        "privileged": st.sampled_from([False, False, False, True]),
        "stop_grace_period": st.sampled_from(["1m30s", "500ms", "0s"]),
    },
)
files = st.builds(
    lambda found: {
        "name": "notes",
        "networks": {"default": {"name": "notes_default"}, "back": {"name": "notes_back", "internal": True}},
        "volumes": {"files": {"name": "notes_files"}},
        "services": found,
    },
    st.dictionaries(names, services, min_size=1, max_size=5),
)


def attempt(config: dict[str, Any]) -> Resolved | tuple[str, ...]:
    try:
        return resolve(config, Context(app="notes", source="/srv/notes", base="/opt/notes", shared_paths=("up",)))
    except ComposeFileError as error:
        return tuple(str(problem) for problem in error.problems)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def has_a_place_for_scratch(service: dict[str, Any]) -> bool:
    mounted = [entry["target"] for entry in service.get("volumes", ())]
    return "/tmp" in [*mounted, *(entry.partition(":")[0] for entry in service.get("tmpfs", ()))]


def may_fill_the_disk(name: str, service: dict[str, Any], stated: dict[str, Any]) -> bool:
    """Whether its log or a volume that nobody stated has no limit. The router's volume has: see test_disk_limits."""
    asked = [entry["target"] for entry in stated.get("volumes", ())]
    nameless = [entry for entry in service.get("volumes", ()) if entry["type"] == "volume" and "source" not in entry]
    nameless = [entry for entry in nameless if entry["target"] not in asked]
    limits = service["logging"].get("options", {})
    capped = service["logging"]["driver"] in ("journald", "none") or {"max-size", "max-file"} <= limits.keys()
    return not capped or bool(nameless and name != ROUTER) or not service["deploy"]["resources"]["limits"]["memory"]


@given(files)
def test_resolving_is_deterministic_and_leaves_its_input_alone(config: dict[str, Any]) -> None:
    before = copy.deepcopy(config)
    turned = {**config, "services": dict(reversed(config["services"].items()))}
    first, second = attempt(config), attempt(turned)
    assert config == before
    assert first == second
    if isinstance(first, Resolved) and isinstance(second, Resolved):
        assert fingerprint(first, "r", "s", "f") == fingerprint(second, "r", "s", "f")
        assert json.dumps(first.compose) == json.dumps(second.compose)


@given(files)
def test_what_is_emitted_keeps_the_promises(config: dict[str, Any]) -> None:
    result = attempt(config)
    if not isinstance(result, Resolved):
        assert result and all(". Next: " in problem for problem in result)
        return
    for project in filter(None, (result.compose, result.shared, result.migration)):
        assert not [text for text in strings(project) if OPEN_DOLLAR.search(text)]
        for service in project["services"].values():
            assert not {"container_name", "ports", "build", "profiles", "links"} & set(service)
            assert "restart_policy" not in service["deploy"]
            assert service["restart"] in ("no", "unless-stopped")
            assert set(service.get("depends_on", ())) <= set(project["services"])
            assert set(service.get("networks", ())) <= set(project["networks"])
        for section in ("networks", "volumes"):
            assert all(item["external"] is True for item in project.get(section, {}).values())
        for name, service in project["services"].items():
            stated = config["services"].get(name, {})
            assert not service.get("privileged")
            assert "SYS_ADMIN" not in service.get("cap_add", [])
            assert service["cap_drop"] == stated.get("cap_drop", ["ALL"])
            assert service["read_only"] is stated.get("read_only", True)
            assert [option for option in service["security_opt"] if option.startswith("no-new-privileges")]
            assert not may_fill_the_disk(name, service, stated)
            assert "read_only" in stated or has_a_place_for_scratch(service)
    started = [*result.start_with_colour, *result.start_at_commit]
    assert sorted(started) == sorted(result.compose["services"])


@given(texts)
def test_escaping_twice_is_escaping_once(text: str) -> None:
    assert escape(escape(text)) == escape(text)
    assert OPEN_DOLLAR.search(escape(text)) is None


@given(st.text(max_size=20))
def test_an_escaped_text_means_itself(text: str) -> None:
    doubled = text.replace("$", "$$")
    assert escape(doubled) == doubled
    assert unescape(doubled) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10s", 10),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1h", 3600),
        ("1.5m", 90),
        ("0", 0),
        ("1us", 1e-6),
        (2_000_000_000, 2),
    ],
)
def test_durations(text: object, expected: float) -> None:
    assert math.isclose(seconds(text), expected)


@pytest.mark.parametrize("text", ["", "10", "s", "1d", "-1s", "1s x", None, True])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("67108864", 2**26),
        (512, 512),
        ("64m", 2**26),
        ("64M", 2**26),
        ("1g", 2**30),
        ("1.5k", 1536),
        ("1gb", 2**30),
        ("1MiB", 2**20),
    ],
)
def test_sizes(text: object, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "m", "1x", "-1m", None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="size"):
        size(text)


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("COMPOSE_FILE", "another name"),
        ("COMPOSE_PROJECT_NAME", "another name"),
        ("DOCKER_HOST", "another name"),
        ("FLOTILLA_COLOUR", "another name"),
        ("PATH", "another name"),
        ("VERSION", "apps[notes].version"),
        ("9A", "letters"),
        ("A-B", "letters"),
        ("A\n", "letters"),
    ],
)
def test_variables_that_would_steer_compose_are_refused(name: str, fragment: str) -> None:
    [problem] = environment_problems("notes", [name, "LOG_LEVEL"], "inventories/staging")
    assert problem.variable == f"apps[notes].environment.{name}"
    assert fragment in problem.next
