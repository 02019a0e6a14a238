"""roles/haproxy/templates/haproxy.cfg.j2: the balancer's configuration, read as sections of lines."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from flotilla.balancer import configured_servers
from flotilla.balancing import MAINTENANCE_MAP
from flotilla.frontage import RATE_SECONDS

from tests.unit.nginx_rendering import ROOT, render

ROLE = ROOT / "roles/haproxy"
VARIABLES: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text())
NOTES: dict[str, Any] = {
    "name": "notes",
    "domains": ["*.example.com", "notes.example.com"],
    "readiness_path": "/ready?deep=1",
    "rate_limit_rps": 5,
    "rate_limit_burst": 20,
}
WIKI: dict[str, Any] = {"name": "my-wiki", "domains": ["wiki.example.com"], "rate_limit_rps": 0}
SERVERS: list[dict[str, Any]] = [
    {"name": "app-1", "address": "10.2.0.11", "port": 443},
    {"name": "app-2", "address": "fd00::2", "port": 8443},
]
FRONTENDS = ("frontend _http", "frontend _https")
Sections = dict[str, list[str]]


def text(**variables: Any) -> str:
    return render(
        ROLE / "templates/haproxy.cfg.j2",
        {
            **yaml.safe_load((ROLE / "defaults/main.yml").read_text()),
            "__haproxy_rate_seconds": VARIABLES["__haproxy_rate_seconds"],
            "__haproxy_certificate_directory": "selfsigned",
            "__haproxy_tls_groups": "X25519:prime256v1:secp384r1",
            "__haproxy_authority_file": "/etc/flotilla/authorities/0123.crt",
            "haproxy_apps": [NOTES, WIKI],
            "haproxy_servers": SERVERS,
            **variables,
        },
    )


def balancer(**variables: Any) -> Sections:
    """Section → its lines. A line at the margin begins a section."""
    sections: Sections = {}
    lines: list[str] = []
    for line in text(**variables).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith(" "):
            lines.append(line.strip())
        else:
            assert line not in sections, f"{line!r} comes twice"
            lines = sections.setdefault(line, [])
    return sections


def place(lines: list[str], part: str) -> int:
    """Where the one line with this part stands."""
    (found,) = [number for number, line in enumerate(lines) if part in line]
    return found


def test_the_sections() -> None:
    assert list(balancer()) == [
        "global",
        "defaults",
        "frontend _alive",
        "frontend _metrics",
        "frontend _http",
        "frontend _https",
        "backend _clients",
        "backend notes",
        "backend _any_notes",
        "backend _rate_notes",
        "backend my-wiki",
        "backend _any_my-wiki",
    ]


def test_lines_of_a_section_are_indented_and_nothing_is_left_of_the_template() -> None:
    rendered = text(haproxy_trusted_proxies=["10.0.0.2"])
    assert not re.search(r"\{\{|\}\}|\{%(?!\+)|None|Undefined", rendered)
    keyword = re.compile(r"#|global$|defaults$|(frontend|backend) [a-z_-]+$|    [a-z]|    #|$")
    assert [line for line in rendered.splitlines() if not keyword.match(line)] == []


# -- whose request it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_name_counts_before_a_wildcard(frontend: str) -> None:
    lines = balancer()[frontend]
    exact = [
        "http-request set-var(txn.app) str(notes) if { var(txn.host) -m str notes.example.com }",
        "http-request set-var(txn.app) str(my-wiki) if { var(txn.host) -m str wiki.example.com }",
    ]
    unnamed = "!{ var(txn.app) -m found } { var(txn.family) -m str *.example.com }"
    wildcard = f"http-request set-var(txn.app) str(notes) if {unnamed}"
    assert [line for line in lines if "set-var(txn.app)" in line] == [*exact, wildcard]


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_name_of_nobody_is_refused_before_anything_else_is_done(frontend: str) -> None:
    lines = balancer()[frontend]
    refused = place(lines, "return status 421")
    assert lines[refused].endswith("unless { var(txn.app) -m found }")
    assert refused > max(number for number, line in enumerate(lines) if "set-var(txn.app)" in line)
    assert refused < min(
        number
        for number, line in enumerate(lines)
        if re.match(r"http-request redirect|use_backend|http-request set-h", line)
    )


def test_a_host_is_told_one_name() -> None:
    """HAProxy answers a request line and a Host that differ with 400, unless it is told to let violations pass."""
    lines = balancer()["frontend _https"]
    assert place(lines, "http-request set-uri %[pathq]") < place(lines, "use_backend %[var(txn.app)]")
    assert not re.search(r"accept-(unsafe|invalid)", text())


def test_an_ipv6_address_is_compared_as_a_client_writes_it() -> None:
    lines = balancer(haproxy_extra_names=["::1"])["frontend _https"]
    assert "http-request set-var(txn.app) str(notes) if { var(txn.host) -m str [::1] }" in lines


@pytest.mark.parametrize(("extra_names", "strict"), [([], True), (["localhost"], True), (["127.0.0.1"], False)])
def test_only_an_address_among_the_names_needs_a_certificate_for_clients_without_a_server_name(
    extra_names: list[str], strict: bool
) -> None:
    (bind,) = [
        line for line in balancer(haproxy_extra_names=extra_names)["frontend _https"] if line.startswith("bind ")
    ]
    assert bind.startswith("bind :8443 ssl crt /etc/flotilla/certs/selfsigned/tls.crt alpn h2,http/1.1")
    assert bind.endswith(" strict-sni") is strict


@pytest.mark.parametrize(("port", "suffix"), [(443, ""), (8443, ":8443")])
def test_http_only_redirects(port: int, suffix: str) -> None:
    lines = balancer(haproxy_https_port=port)["frontend _http"]
    assert f"http-request redirect location https://%[var(txn.host)]{suffix}%[pathq] code 308" in lines
    assert not [line for line in lines if line.startswith(("use_backend", "default_backend"))]


# -- who asks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_no_proxy_is_believed_unless_it_is_named(frontend: str) -> None:
    assert not [line for line in balancer()[frontend] if "trusted" in line or "set-src" in line]


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_only_proxies_that_are_named_are_believed(frontend: str) -> None:
    lines = balancer(haproxy_trusted_proxies=["10.0.0.2", "fd00::/64"])[frontend]
    assert "acl trusted src 10.0.0.2 fd00::/64" in lines
    believed = [line for line in lines if "req.hdr(X-Request-ID)" in line or "set-src" in line]
    assert len(believed) == 2
    assert all(" if trusted " in line for line in believed)
    # A client's own id is not one that could write lines of its own into the log.
    assert "-m reg ^[A-Za-z0-9._-]{1,128}$ }" in believed[0]


def test_what_is_no_network_is_no_proxy() -> None:
    for wrong in ("10.0.0.2 0.0.0.0/0", "fe80::1%\n    server evil 192.0.2.66:443", "proxy.lan"):
        with pytest.raises(AnsibleError, match=r"haproxy_trusted_proxies\[0\]"):
            text(haproxy_trusted_proxies=[wrong])


def test_a_host_is_told_by_the_balancer_and_not_by_the_client() -> None:
    lines = balancer()["frontend _https"]
    for line in (
        "http-request set-header X-Request-ID %[var(txn.id)]",
        "http-request set-header X-Forwarded-For %[src]",
        "http-request set-header X-Forwarded-Proto https",
        "http-request del-header Forwarded",
    ):
        assert line in lines
    assert "http-request disable-l7-retry unless { method GET HEAD OPTIONS }" in lines


@pytest.mark.parametrize(
    "hsts", ["max-age=60", "max-age=63072000; includeSubDomains; preload"], ids=["alone", "with more"]
)
def test_hsts(hsts: str) -> None:
    (line,) = [line for line in balancer(haproxy_hsts=hsts)["frontend _https"] if "Strict-Transport" in line]
    assert line.startswith(f'http-after-response set-header Strict-Transport-Security "{hsts}" unless ')
    assert not [line for line in balancer(haproxy_hsts=hsts)["frontend _http"] if "Strict-Transport" in line]


def test_hsts_left_out() -> None:
    assert "Strict-Transport-Security" not in text(haproxy_hsts="")


# -- limits and the maintenance page ------------------------------------------------------------------


def test_a_limited_app_has_its_table_and_an_unlimited_one_none() -> None:
    sections = balancer()
    assert sections["backend _rate_notes"] == ["stick-table type ipv6 size 100k expire 10s store http_req_rate(10s)"]
    assert "backend _rate_my-wiki" not in sections
    assert not [line for line in sections["frontend _https"] if "my-wiki" in line and "set-var" not in line]


@pytest.mark.parametrize("limits", [(0, 0), (0, 3), (3, 0), (3, 3)])
def test_every_table_that_is_used_is_there_and_the_other_way_round(limits: tuple[int, int]) -> None:
    apps = [{**app, "rate_limit_rps": limit} for app, limit in zip((NOTES, WIKI), limits, strict=True)]
    rendered = text(haproxy_apps=apps)
    used = set(re.findall(r" table (_rate\S+)", rendered)) | set(re.findall(r"sc_http_req_rate\(0,(\S+)\)", rendered))
    assert used == set(re.findall(r"^backend (_rate_\S+)$", rendered, re.MULTILINE))
    assert len(used) == sum(limit > 0 for limit in limits)


def test_a_limit_counts_over_the_period_that_its_number_is_made_for() -> None:
    assert VARIABLES["__haproxy_rate_seconds"] == RATE_SECONDS
    lines = balancer()["frontend _https"]
    limit = lines[place(lines, "return status 429")]
    assert limit.endswith("if asks_notes { sc_http_req_rate(0,_rate_notes) gt 70 }")
    assert place(lines, "track-sc0") < place(lines, "return status 429") < place(lines, "use_backend _any_")


def test_the_page_is_where_the_module_switches_it_and_is_no_request_that_counts() -> None:
    lines = balancer()["frontend _https"]
    page = place(lines, "maintenance.html")
    assert f"map(opt@{MAINTENANCE_MAP}) -m found" in lines[page]
    assert place(lines, "return status 421") < page < place(lines, "track-sc0")


def test_a_client_is_counted_by_its_connections_and_behind_a_proxy_by_its_requests() -> None:
    direct = balancer()["frontend _https"]
    assert direct[place(direct, "track-sc1")].endswith("table _clients")
    assert "tcp-request connection reject if { sc_conn_cur(1,_clients) gt 400 }" in direct
    proxied = balancer(haproxy_trusted_proxies=["10.0.0.2"])["frontend _https"]
    assert [line.partition(" ")[0] for line in proxied if "track-sc1" in line] == ["tcp-request", "http-request"]
    assert proxied[place(proxied, "connection track-sc1")].endswith(" unless trusted")
    assert place(proxied, "set-src") < place(proxied, "http-request track-sc1") < place(proxied, "use_backend _any_")
    assert "_clients" not in text(haproxy_client_connections=0, haproxy_trusted_proxies=["10.0.0.2"])


def test_headers_are_for_what_the_balancer_says_itself() -> None:
    lines = balancer(haproxy_security_headers={"X-A": "100% 'self'"})["frontend _https"]
    own = "http-after-response set-header X-A \"100%% 'self'\" unless { var(txn.served) -m found } || "
    assert own + "{ res.hdr(X-A) -m found }" in lines
    assert "http-response set-var(txn.served) bool(true)" in lines


def test_a_body_is_here_before_a_host_is_asked() -> None:
    lines = balancer(haproxy_client_body_seconds=7)["frontend _https"]
    assert lines[place(lines, "wait-for-body")].startswith("http-request wait-for-body time 7s if ")
    assert place(lines, "return status 429") < place(lines, "wait-for-body") < place(lines, "use_backend _any_")


# -- the hosts ----------------------------------------------------------------------------------------


def test_an_app_is_asked_for_by_a_name_that_its_certificate_has() -> None:
    lines = balancer()["backend notes"]
    assert (
        "http-check send meth GET uri /ready?deep=1 ver HTTP/1.1 hdr Host notes.example.com hdr User-Agent "
        "flotilla-balancer"
    ) in lines
    assert (
        "default-server ssl verify required ca-file /etc/flotilla/authorities/0123.crt sni str(notes.example.com) "
        "verifyhost notes.example.com"
    ) in lines
    assert lines[place(lines, "check-sni")].startswith("default-server check check-sni notes.example.com inter 2000ms")


def test_a_certificate_is_always_verified() -> None:
    assert "verify none" not in text()
    for section, lines in balancer().items():
        if section.startswith("backend ") and not section.startswith("backend _"):
            assert [line for line in lines if line.startswith("default-server ssl verify required ")]


def test_a_fleet_whose_checks_fail_everywhere_is_asked_all_the_same() -> None:
    lines = balancer()["frontend _https"]
    choice = [line for line in lines if line.startswith("use_backend")]
    assert choice == [
        "use_backend _any_%[var(txn.app)] if { var(txn.app),nbsrv eq 0 }",
        "use_backend %[var(txn.app)]",
    ]
    unchecked = balancer()["backend _any_notes"]
    assert not [line for line in unchecked if "check" in line.split()]
    assert [line for line in unchecked if line.startswith("default-server ssl verify required ")]


def test_every_app_is_on_every_host_and_a_reload_reads_the_same() -> None:
    assert configured_servers(text()) == {
        (app, host): address
        for app in ("notes", "_any_notes", "my-wiki", "_any_my-wiki")
        for host, address in (("app-1", ("10.2.0.11", "443")), ("app-2", ("fd00::2", "8443")))
    }
    assert "server app-2 [fd00::2]:8443" in balancer()["backend notes"]


def test_metrics_and_the_containers_check_are_not_for_clients() -> None:
    sections = balancer()
    assert sections["frontend _alive"][0] == "bind 127.0.0.1:8082"
    assert "http-request return status 404" in sections["frontend _metrics"]
    assert "prometheus-exporter" not in " ".join(sections["frontend _https"] + sections["frontend _http"])


def test_only_current_versions_of_tls_on_both_sides() -> None:
    lines = balancer()["global"]
    assert "ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets" in lines
    assert "ssl-default-server-options ssl-min-ver TLSv1.2" in lines


def test_what_is_drained_is_read_at_the_start() -> None:
    sections = balancer()
    assert "server-state-file /etc/flotilla/state/servers" in sections["global"]
    assert "load-server-state-from-file global" in sections["defaults"]


@pytest.mark.parametrize(
    ("variable", "section", "line"),
    [
        ({"haproxy_max_connections": 99}, "global", "maxconn 99"),
        ({"haproxy_threads": 3}, "global", "nbthread 3"),
        ({"haproxy_reload_grace_seconds": 7}, "global", "hard-stop-after 7s"),
        ({"haproxy_tunnel_seconds": 7}, "defaults", "timeout tunnel 7s"),
        ({"haproxy_client_header_seconds": 7}, "defaults", "timeout http-request 7s"),
        ({"haproxy_client_header_seconds": 7}, "defaults", "timeout client-hs 7s"),
        ({"haproxy_client_idle_seconds": 7}, "defaults", "timeout client 7s"),
        ({"haproxy_balance": "roundrobin"}, "backend notes", "balance roundrobin"),
    ],
)
def test_a_variable_has_its_line(variable: dict[str, Any], section: str, line: str) -> None:
    assert line in balancer(**variable)[section]
    assert line not in balancer()[section]


def test_what_could_break_out_is_refused() -> None:
    with pytest.raises(AnsibleError, match=r"haproxy_apps\[notes\]\.readiness_path"):
        text(haproxy_apps=[{**NOTES, "readiness_path": "/ready\n    server evil 192.0.2.66:443"}])
    with pytest.raises(AnsibleError, match=r"haproxy_servers\[app-1\]\.address"):
        text(haproxy_servers=[{**SERVERS[0], "address": "10.2.0.11:443 backup"}])


def test_challenges_are_answered_over_http_before_the_redirect() -> None:
    lines = balancer(haproxy_acme_thumbprint="thumb_print-1")["frontend _http"]
    (number,) = [index for index, line in enumerate(lines) if "acme-challenge" in line]
    assert 'lf-string "%[path,field(4,/)].thumb_print-1"' in lines[number]
    assert lines[number].endswith("{ path -m reg ^/\\.well-known/acme-challenge/[A-Za-z0-9_-]{1,128}$ }")
    assert lines[number + 1].startswith("http-request redirect")
    assert "acme" not in text()
