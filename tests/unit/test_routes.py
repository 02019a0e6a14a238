"""plugins/filter/flotilla_routes.py: what is refused before it becomes Nginx configuration, and how it is named."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from plugins.filter.flotilla_routes import (
    flotilla_addresses,
    flotilla_edge_apps,
    flotilla_edge_servers,
    flotilla_headers,
    flotilla_hidden_headers,
    flotilla_readiness_pattern,
    flotilla_routes,
    flotilla_tls_names,
)

ROUTE: dict[str, Any] = {"path": "/api", "service": "api", "port": 3000}


def app(*routes: dict[str, Any]) -> dict[str, Any]:
    return {"name": "notes", "routes": list(routes)}


def test_a_route_needs_only_path_service_and_port() -> None:
    (route,) = flotilla_routes(app(ROUTE))
    assert route == {
        "number": 0,
        "path": "/api",
        "exact": "/api",
        "prefix": "/api/",
        "service": "api",
        "port": 3000,
        "strip_prefix": False,
        "cors_origins": (),
        "cors_credentials": False,
        "cache_seconds": None,
        "timeout_seconds": 60,
        "websocket": False,
        "spa": False,
        "rate": "",
        "rate_burst": 0,
        "retry_after": 0,
        "upload_limit_mb": 0,
        "clear_site_data": False,
    }


def test_the_longest_path_comes_first() -> None:
    routes = flotilla_routes(app(*({**ROUTE, "path": path} for path in ("/", "/api", "/api/v2/", "/ui"))))
    assert [route["path"] for route in routes] == ["/api/v2/", "/api", "/ui", "/"]


def test_the_root_cannot_be_stripped() -> None:
    (route,) = flotilla_routes(app({**ROUTE, "path": "/", "strip_prefix": True}))
    assert not route["strip_prefix"]


BREAKOUTS = [
    '/a"; }',
    "/a b",
    "/a{",
    "/a;",
    "/$uri",
    "/a\\",
    "/a\nb",
    "/a#",
    "/a'b",
    "//",
    "/a//b",
    "/../x",
    "/./x",
    "a",
    "",
    "/%2e",
    "/é",
]


@pytest.mark.parametrize("path", BREAKOUTS)
def test_a_path_that_could_break_out_is_refused(path: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"apps\[notes\]\.routes\[0\]\.path: "):
        flotilla_routes(app({**ROUTE, "path": path}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("service", "api; return 200"),
        ("service", "api:80"),
        ("service", None),
        ("port", 0),
        ("port", 65536),
        ("port", "3000; }"),
        ("port", True),
        ("port", None),
        ("strip_prefix", "yes"),
        ("websocket", 1),
        ("spa", "true"),
        ("cache_seconds", -1),
        ("cache_seconds", 365 * 86400 + 1),
        ("timeout_seconds", 0),
        ("cors_origins", "https://a.example.com"),
        ("rate_limit", "5r/s"),
        ("rate_limit", {}),
        ("rate_limit", {"requests_per_second": 1, "requests_per_minute": 1}),
        ("rate_limit.requests_per_second", {"requests_per_second": 0}),
        ("rate_limit.requests_per_minute", {"requests_per_minute": "5; }"}),
        ("rate_limit.burst", {"requests_per_second": 1, "burst": -1}),
        ("rate_limit.brust", {"requests_per_second": 1, "brust": 1}),
        ("upload_limit_mb", 0),
        ("upload_limit_mb", 26),
        ("clear_site_data", "yes"),
        ("pth", "/"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: Any) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        flotilla_routes(app(ROUTE, {**ROUTE, "path": "/x", key.partition(".")[0]: value}))
    assert str(caught.value).startswith(f"apps[notes].routes[1].{key}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "rate", "burst", "retry_after"),
    [
        ({"requests_per_second": 5, "burst": 7}, "5r/s", 7, 1),
        ({"requests_per_second": 5}, "5r/s", 10, 1),
        ({"requests_per_minute": 6, "burst": 0}, "6r/m", 0, 10),
        ({"requests_per_minute": 7}, "7r/m", 14, 9),
        ({"requests_per_minute": 120}, "120r/m", 240, 1),
    ],
)
def test_a_route_may_have_a_rate(limit: dict[str, int], rate: str, burst: int, retry_after: int) -> None:
    (route,) = flotilla_routes(app({**ROUTE, "rate_limit": limit}))
    assert (route["rate"], route["rate_burst"], route["retry_after"]) == (rate, burst, retry_after)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["requests_per_second", "requests_per_minute", "burst", "rate"]), ANYTHING)
    | ANYTHING
)
def test_whatever_a_rate_is_it_is_refused_or_a_rate_of_nginx(limit: Any) -> None:
    try:
        (route,) = flotilla_routes(app({**ROUTE, "rate_limit": limit}))
    except AnsibleFilterError as error:
        assert str(error).startswith("apps[notes].routes[0].rate_limit")
    else:
        assert re.fullmatch(r"|[1-9][0-9]*r/[sm]", route["rate"])
        assert isinstance(route["rate_burst"], int) and route["rate_burst"] >= 0


def test_a_route_takes_no_more_than_the_app() -> None:
    routes = app({**ROUTE, "upload_limit_mb": 30})
    with pytest.raises(AnsibleFilterError, match=r"upload_limit_mb: 30 is more than the app's upload_limit_mb \(25\)"):
        flotilla_routes(routes)
    (route,) = flotilla_routes({**routes, "upload_limit_mb": 30})
    assert route["upload_limit_mb"] == 30


@pytest.mark.parametrize(
    ("path", "asked", "matches"),
    [
        ("/ready", "/ready", True),
        ("/ready", "/ready?deep=1", True),
        ("/ready?deep=1", "/ready", True),
        ("/ready", "/ready/x", False),
        ("/ready", "/x/ready", False),
        ("/a.b+c", "/a.b+c", True),
        ("/a.b+c", "/axbbc", False),
    ],
)
def test_readiness_is_told_from_other_requests(path: str, asked: str, matches: bool) -> None:
    pattern = flotilla_readiness_pattern({"name": "notes", "readiness": {"path": path}})
    assert bool(re.search(pattern, asked)) == matches


def test_a_readiness_path_that_could_break_out_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match=r"apps\[notes\]\.readiness\.path"):
        flotilla_readiness_pattern({"name": "notes", "readiness": {"path": '/ready" "";'}})


@pytest.mark.parametrize(
    "origin",
    [
        'https://a.example.com"',
        "https://a.example.com/",
        "a.example.com",
        "https://*.example.com",
        "null",
        "ftp://a",
        "https://a\n",
        3,
    ],
)
def test_an_origin_that_is_none_is_refused(origin: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"apps\[notes\]\.routes\[0\]\.cors_origins\[1\]: "):
        flotilla_routes(app({**ROUTE, "cors_origins": ["https://a.example.com:8443", origin]}))


def test_credentials_for_every_origin_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match=r"cors_credentials: .*list the origins"):
        flotilla_routes(app({**ROUTE, "cors_origins": ["*"], "cors_credentials": True}))


def test_two_routes_of_one_path_are_refused() -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"routes\[1\]\.path: /api/ is the path of apps\[notes\]\.routes\[0\] too"
    ):
        flotilla_routes(app(ROUTE, {**ROUTE, "path": "/api/"}))


def test_an_app_without_routes_is_told_what_one_looks_like() -> None:
    with pytest.raises(AnsibleFilterError, match=r"apps\[notes\]\.routes: is missing or empty: .*path: /"):
        flotilla_routes({"name": "notes"})


def test_all_problems_come_at_once_and_a_near_name_is_offered() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        flotilla_routes(app({**ROUTE, "port": 0}, {**ROUTE, "path": "x", "websockets": True}))
    assert str(caught.value).count("\n") == 2
    assert "did you mean `websocket`?" in str(caught.value)


def test_the_edge_gets_its_share_of_apps() -> None:
    full = {
        **app(ROUTE),
        "domains": ["notes.example.com"],
        "rate_limit": {"requests_per_second": 5, "burst": 7},
        "upload_limit_mb": 3,
        "secrets": {"database_password": "hidden"},
        "waf": {"excluded_rules": [942100], "excluded_paths": ["/import"]},
    }
    assert flotilla_edge_apps([full]) == [
        {
            "name": "notes",
            "domains": ["notes.example.com"],
            "upload_limit_mb": 3,
            "rate_limit_rps": 5,
            "rate_limit_burst": 7,
            "waf_excluded_rules": [942100],
            "waf_excluded_paths": ["/import"],
        }
    ]


def test_no_domain_serves_two_apps() -> None:
    apps = [{"name": "a", "domains": ["x.example.com"]}, {"name": "b", "domains": ["y.example.com", "x.example.com"]}]
    with pytest.raises(AnsibleFilterError, match=r"apps\[b\]\.domains\[1\]: x\.example\.com is a domain of a already"):
        flotilla_edge_apps(apps)


@pytest.mark.parametrize(
    "domain",
    ["Example.com", "a_b.example.com", "a.example.com;", "*.*.example.com", "-a.example.com", "a..b", "$host", "~^x"],
)
def test_a_domain_that_is_none_is_refused(domain: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"apps\[a\]\.domains\[0\]: "):
        flotilla_edge_apps([{"name": "a", "domains": [domain]}])


@pytest.mark.parametrize("missing", [{"name": "a"}, {"name": "a", "domains": []}])
def test_an_app_without_a_domain_is_refused(missing: dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match=r"apps\[a\]\.domains: is missing or empty"):
        flotilla_edge_apps([missing])


def test_an_app_overrides_headers_and_leaves_some_out() -> None:
    apps = [
        {
            "name": "a",
            "domains": ["a.example.com"],
            "security_headers": {"x-frame-options": "DENY", "Referrer-Policy": ""},
        }
    ]
    (server,) = flotilla_edge_servers(
        apps, {"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "no-referrer", "X-Other": "1"}
    )
    assert server["headers"] == (("x-frame-options", "DENY"), ("X-Other", "1"))


@pytest.mark.parametrize("value", ['a" always; }', "a\nb", "$request_uri", "a\\", 3])
def test_a_header_that_could_break_out_is_refused(value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"nginx_apps\[a\]\.security_headers\.X-Other: "):
        flotilla_edge_servers([{"name": "a", "domains": ["a.example.com"], "security_headers": {"X-Other": value}}])


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"waf": {"excluded_rules": [942100, 3]}}, "apps[notes].waf.excluded_rules[1]: "),
        ({"waf": {"excluded_paths": ["/api", "/"]}}, "apps[notes].waf.excluded_paths[1]: "),
        ({"security_headers": {"X-A": "$host"}}, "apps[notes].security_headers.X-A: "),
    ],
)
def test_what_the_edge_would_refuse_is_said_with_the_routes(extra: dict[str, Any], named: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        flotilla_routes({**app(ROUTE), **extra})
    assert str(caught.value).startswith(named) and "\n" not in str(caught.value)


def test_headers_for_every_answer_are_checked_and_empty_ones_left_out() -> None:
    assert flotilla_headers({"X-A": "1", "X-B": ""}, "nginx_security_headers") == [{"name": "X-A", "value": "1"}]
    with pytest.raises(AnsibleFilterError, match=r"haproxy_security_headers\.X-A: "):
        flotilla_headers({"X-A": 'a" always; }'}, "haproxy_security_headers")


def test_hidden_headers_but_for_those_that_are_shown() -> None:
    assert flotilla_hidden_headers(["$wsep", "Server", "X-CMS"], ["x-cms"]) == ["$wsep", "Server"]
    with pytest.raises(AnsibleFilterError, match="not a header's name"):
        flotilla_hidden_headers(["Server; }"])


@pytest.mark.parametrize("rule", [942, "942100", True, -1])
def test_a_rule_that_is_none_is_refused(rule: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"nginx_apps\[a\]\.waf_excluded_rules\[1\]: "):
        flotilla_edge_servers([{"name": "a", "domains": ["a.example.com"], "waf_excluded_rules": [942100, rule]}])


@pytest.mark.parametrize("path", ["/", "api", "/a b", "/a; modsecurity off"])
def test_a_path_that_cannot_be_excluded_is_refused(path: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"nginx_apps\[a\]\.waf_excluded_paths\[0\]: "):
        flotilla_edge_servers([{"name": "a", "domains": ["a.example.com"], "waf_excluded_paths": [path]}])


def test_the_certificate_names_every_domain_once_and_the_extra_names() -> None:
    apps = [{"name": "a", "domains": ["a.example.com", "*.b.example.com"]}, {"name": "c", "domains": ["c.example.com"]}]
    servers = flotilla_edge_servers(apps, {}, ["127.0.0.1", "::1", "localhost", "c.example.com"])
    assert servers[0]["by_address"] and not servers[1]["by_address"]
    assert flotilla_tls_names(servers) == [
        "DNS:a.example.com",
        "DNS:*.b.example.com",
        "IP:127.0.0.1",
        "IP:::1",
        "DNS:localhost",
        "DNS:c.example.com",
    ]


def test_networks_are_checked_and_named() -> None:
    assert flotilla_addresses(["10.0.0.0/16", "192.0.2.1"], "nginx_trusted_proxies") == ["10.0.0.0/16", "192.0.2.1"]
    with pytest.raises(AnsibleFilterError, match=r"nginx_trusted_proxies\[1\]: "):
        flotilla_addresses(["10.0.0.0/16", "10.0.0.1/16"], "nginx_trusted_proxies")


# Python takes whatever stands behind % for the zone of an IPv6 address, ends of lines too.
ZONE = "fe80::1%eth0;\n    return 200"


def test_an_address_with_a_zone_is_no_address() -> None:
    with pytest.raises(AnsibleFilterError, match=r"nginx_trusted_proxies\[0\]: .*zone"):
        flotilla_addresses([ZONE], "nginx_trusted_proxies")
    with pytest.raises(AnsibleFilterError, match=r"nginx_extra_names\[0\]: .*nor an address"):
        flotilla_edge_servers([{"name": "notes", "domains": ["notes.example.com"]}], {}, [ZONE])
    with pytest.raises(AnsibleFilterError, match="nor an address"):
        flotilla_edge_servers([{"name": "notes", "domains": [ZONE]}])
