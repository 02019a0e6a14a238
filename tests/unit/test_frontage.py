"""What the load balancer is told of apps and hosts, and what is refused because it could break out of haproxy.cfg."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flotilla.frontage import balanced_apps, balanced_servers, balancers, checked_servers, frontages, is_address
from hypothesis import given
from hypothesis import strategies as st

NOTES: dict[str, Any] = {"name": "notes", "domains": ["notes.example.com", "www.example.com"]}
HOST: dict[str, Any] = {"name": "app-1", "address": "10.2.0.11", "port": 443}
# What ends a word of HAProxy's configuration, begins a comment, or is expanded in it.
FORBIDDEN = set(" \t\r\n\v\f\"'%$#\\{}\0\x85\u2028\xa0")


def problems(*apps: dict[str, Any], extra_names: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ValueError) as caught:
        frontages(apps, extra_names)
    return str(caught.value).splitlines()


def server_problems(*servers: dict[str, Any]) -> list[str]:
    with pytest.raises(ValueError) as caught:
        checked_servers(servers)
    return str(caught.value).splitlines()


def strings(value: Any) -> Iterator[str]:
    """All the strings that a value is made of."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from strings(one)


# -- apps ---------------------------------------------------------------------------------------------


def test_an_app() -> None:
    (app,) = frontages([{**NOTES, "readiness_path": "/ready?deep=1", "rate_limit_rps": 5, "rate_limit_burst": 20}])
    assert app.names == app.exact == ("notes.example.com", "www.example.com")
    assert app.wildcard == ()
    assert app.asked == "notes.example.com"
    assert app.readiness_path == "/ready?deep=1"
    assert app.rate_limit == 5 * 10 + 20
    assert not app.by_address


def test_what_is_not_said() -> None:
    (app,) = frontages([NOTES])
    assert app.readiness_path == "/"
    # 50 a second over ten seconds, and twice the rate above it.
    assert app.rate_limit == 50 * 10 + 100


def test_no_rate_is_no_limit_whatever_the_burst() -> None:
    (app,) = frontages([{**NOTES, "rate_limit_rps": 0, "rate_limit_burst": 20}])
    assert app.rate_limit == 0


@pytest.mark.parametrize(
    ("domains", "asked"),
    [
        (["*.example.com", "notes.example.com"], "notes.example.com"),
        (["*.example.com"], "www.example.com"),
        (["10.0.0.1", "notes.example.com"], "notes.example.com"),
    ],
)
def test_the_name_that_the_hosts_are_asked_for_is_one_that_a_certificate_can_have(
    domains: list[str], asked: str
) -> None:
    (app,) = frontages([{**NOTES, "domains": domains}])
    assert app.asked == asked


def test_a_wildcard_comes_after_the_names() -> None:
    (app,) = frontages([{**NOTES, "domains": ["*.example.com", "notes.example.com"]}])
    assert (app.exact, app.wildcard) == (("notes.example.com",), ("*.example.com",))
    assert app.names == ("notes.example.com", "*.example.com")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_extra_names_go_to_the_first_app_and_once(address: str) -> None:
    wiki = {"name": "wiki", "domains": ["wiki.example.com"]}
    first, second = frontages([NOTES, wiki], [address, "www.example.com"])
    assert first.names == ("notes.example.com", "www.example.com", address)
    assert first.by_address
    assert second.names == ("wiki.example.com",)
    assert not second.by_address


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"name": "Notes"},
            "haproxy_apps[Notes].name: 'Notes' is not a small letter and then small letters, digits and -",
        ),
        ({"timeout": 3}, "haproxy_apps[notes].timeout: there is no such key"),
        (
            {"domains": ["Notes.example.com"]},
            "haproxy_apps[notes].domains: 'Notes.example.com' is not a domain in small letters, nor an address",
        ),
        (
            {"domains": []},
            "haproxy_apps[notes].domains: behind a balancer an app needs a domain (an address is none)",
        ),
        (
            {"domains": ["10.0.0.1"]},
            "haproxy_apps[notes].domains: behind a balancer an app needs a domain (an address is none)",
        ),
        (
            {"readiness_path": "ready"},
            "haproxy_apps[notes].readiness_path: 'ready' is not a path without spaces, quotes, %, $, # and \\",
        ),
        ({"rate_limit_rps": -1}, "haproxy_apps[notes].rate_limit_rps: -1 is not a number from 0 on"),
        ({"rate_limit_rps": "many"}, "haproxy_apps[notes].rate_limit_rps: 'many' is not a number from 0 on"),
        ({"rate_limit_burst": -5}, "haproxy_apps[notes].rate_limit_burst: -5 is not a number from 0 on"),
    ],
)
def test_a_problem_is_named_with_its_variable(change: dict[str, Any], problem: str) -> None:
    assert problems({**NOTES, **change}) == [problem]


def test_a_domain_belongs_to_one_app() -> None:
    second = {"name": "wiki", "domains": ["www.example.com"]}
    assert problems(NOTES, second) == ["haproxy_apps[wiki].domains: www.example.com is a domain of notes already"]


def test_two_apps_of_the_same_name() -> None:
    second = {**NOTES, "domains": ["wiki.example.com"]}
    assert problems(NOTES, second) == ["haproxy_apps: two apps have the same name"]


def test_an_extra_name_that_is_none() -> None:
    assert problems(NOTES, extra_names=("no name",)) == [
        "haproxy_extra_names: 'no name' is not a domain in small letters, nor an address"
    ]


def test_all_problems_are_told_at_once() -> None:
    assert len(problems({"name": "-", "domains": ["a b"], "readiness_path": "x", "color": 1})) == 4


def test_an_app_without_a_name_is_known_by_its_place() -> None:
    assert problems(NOTES, {"domains": ["wiki.example.com"]})[0].startswith("haproxy_apps[1].name: ''")


INJECTIONS = [
    "x\n    server evil 192.0.2.66:443",
    "x # comment",
    "x#comment",
    "x y",
    'x"',
    "x'",
    "%[env(HOME)]",
    "$HOME",
    "x\\",
    "x\ty",
    "x\x85y",
    "x\n",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_breaks_out_of_the_configuration(text: str) -> None:
    assert problems({**NOTES, "name": text})
    assert problems({**NOTES, "domains": ["notes.example.com", text]})
    assert problems({**NOTES, "domains": ["notes.example.com", f"*.{text}"]})
    assert problems({**NOTES, "domains": ["notes.example.com", f"fe80::1%{text}"]})
    assert problems({**NOTES, "readiness_path": f"/{text}"})
    assert problems(NOTES, extra_names=(text,))
    assert problems(NOTES, extra_names=(f"fe80::1%{text}",))
    assert server_problems({**HOST, "name": text})
    assert server_problems({**HOST, "address": text})
    assert server_problems({**HOST, "address": f"fe80::1%{text}"})
    assert server_problems({**HOST, "port": f"443 {text}"})


# Attempts as an attacker writes them, and anything else.
TEXT = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"\A[a-z0-9*.:/%$#\"' \\\n-]{1,20}\Z"),
    st.sampled_from(["10.0.0.1", "::1", "fe80::1%", "/ready", "app.example.com"]).flatmap(
        lambda start: st.text(max_size=10).map(lambda end: start + end)
    ),
)


@given(name=TEXT, domain=TEXT, path=TEXT, extra=TEXT)
def test_no_accepted_app_has_a_character_that_means_something_to_haproxy(
    name: str, domain: str, path: str, extra: str
) -> None:
    for app, names in (
        ({**NOTES, "name": name}, ()),
        ({**NOTES, "domains": ["notes.example.com", domain]}, ()),
        ({**NOTES, "readiness_path": path}, ()),
        (NOTES, (extra,)),
    ):
        try:
            (found,) = frontages([app], names)
        except ValueError:
            continue
        assert not FORBIDDEN & set("".join(strings(vars(found))))
        assert "".join(strings(vars(found))).isascii()


@given(name=TEXT, address=TEXT, port=st.one_of(TEXT, st.integers(), st.booleans(), st.floats(), st.none()))
def test_no_accepted_server_has_a_character_that_means_something_to_haproxy(name: str, address: str, port: Any) -> None:
    for server in ({**HOST, "name": name}, {**HOST, "address": address}, {**HOST, "port": port}):
        try:
            (found,) = checked_servers([server])
        except ValueError:
            continue
        written = f"{found['name']}{found['address']}{found['port']}"
        assert not FORBIDDEN & set(written)
        assert written.isascii()
        assert 0 < int(found["port"]) < 65536


# -- servers ------------------------------------------------------------------------------------------


def test_servers() -> None:
    assert checked_servers([HOST, {"name": "app_2.lan", "address": "fd00::2", "port": "8443"}]) == [
        {"name": "app-1", "address": "10.2.0.11", "port": "443"},
        {"name": "app_2.lan", "address": "[fd00::2]", "port": "8443"},
    ]
    assert checked_servers([{"name": "app-1", "address": "10.2.0.11"}])[0]["port"] == "443"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": ""}, "haproxy_servers[].name: '' is not a host's name"),
        (
            {"address": "app-1.lan"},
            "haproxy_servers[app-1].address: 'app-1.lan' is not an address: set the host's private_address",
        ),
        (
            {"address": ""},
            "haproxy_servers[app-1].address: '' is not an address: set the host's private_address",
        ),
        ({"port": 0}, "haproxy_servers[app-1].port: 0 is not a port"),
        ({"port": 65536}, "haproxy_servers[app-1].port: 65536 is not a port"),
        ({"port": "https"}, "haproxy_servers[app-1].port: 'https' is not a port"),
        ({"port": "²"}, "haproxy_servers[app-1].port: '²' is not a port"),
        ({"port": "٤٤٣"}, "haproxy_servers[app-1].port: '٤٤٣' is not a port"),
    ],
)
def test_a_problem_of_a_server_is_named_with_its_variable(change: dict[str, Any], problem: str) -> None:
    assert server_problems({**HOST, **change}) == [problem]


def test_two_servers_of_the_same_name() -> None:
    assert server_problems(HOST, HOST) == ["haproxy_servers: two servers have the same name"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("10.0.0.1", True),
        ("::1", True),
        # What stands behind % may be any text, spaces and ends of lines too.
        ("fe80::1%eth0", False),
        ("fe80::1%\n    server evil 192.0.2.66:443", False),
        ("10.0.0.0/8", False),
        ("localhost", False),
    ],
)
def test_an_address(name: str, expected: bool) -> None:
    assert is_address(name) is expected


# -- from the inventory -------------------------------------------------------------------------------


def test_an_inventorys_apps_become_the_roles() -> None:
    full = {
        "name": "notes",
        "domains": ["notes.example.com"],
        "readiness": {"path": "/ready", "timeout_seconds": 3},
        "rate_limit": {"requests_per_second": 0, "burst": 7},
        "routes": [],
    }
    assert balanced_apps([full, {"name": "wiki", "domains": ["wiki.example.com"], "rate_limit": None}]) == [
        {
            "name": "notes",
            "domains": ["notes.example.com"],
            "readiness_path": "/ready",
            "rate_limit_rps": 0,
            "rate_limit_burst": 7,
        },
        {"name": "wiki", "domains": ["wiki.example.com"]},
    ]


def test_what_is_shaped_is_accepted() -> None:
    apps = balanced_apps([{"name": "notes", "domains": ["notes.example.com"], "readiness": {"path": "/ready"}}])
    assert frontages(apps)[0].readiness_path == "/ready"


def test_an_inventorys_hosts_become_the_servers() -> None:
    variables = {"app-2": {"private_address": "10.2.0.12"}, "app-1": {"nginx_https_port": "8443"}, "db": {}}
    servers = balanced_servers(["app-2", "app-1"], variables)
    assert servers == [
        {"name": "app-1", "address": "", "port": 8443},
        {"name": "app-2", "address": "10.2.0.12", "port": 443},
    ]
    assert server_problems(*servers) == [
        "haproxy_servers[app-1].address: '' is not an address: set the host's private_address"
    ]


@pytest.mark.parametrize(
    ("unprovisioned", "expected"),
    [
        ([], []),
        (["data-1"], []),
        (["app-2"], ["lb-1", "lb-2"]),
        (["lb-2"], ["lb-1", "lb-2"]),
    ],
)
def test_all_balancers_are_provisioned_when_there_is_something_new_for_them(
    unprovisioned: list[str], expected: list[str]
) -> None:
    groups = {"loadbalancer": ["lb-1", "lb-2"], "app": ["app-1", "app-2"], "data": ["data-1"]}
    assert balancers(unprovisioned, groups) == expected


def test_an_inventory_without_a_balancer() -> None:
    assert balancers(["app-1"], {"app": ["app-1"]}) == []
