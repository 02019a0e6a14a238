"""roles/nginx/templates/nginx.conf.j2: the edge's configuration."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.nginx_rendering import ROUTERS, Block, parse, render_edge, render_waf

NOTES: dict[str, Any] = {"name": "notes", "domains": ["notes.example.com", "www.example.com"]}
WIKI: dict[str, Any] = {"name": "my-wiki", "domains": ["wiki.example.com"], "upload_limit_mb": 3, "rate_limit_rps": 0}


def edge(**variables: Any) -> Block:
    return parse(render_edge(**{"nginx_apps": [NOTES, WIKI], **variables}))


def servers(config: Block, listen: str) -> list[Block]:
    return [block for block in config.walk() if block.name == "server" and block.values("listen")[0].startswith(listen)]


def https(config: Block, name: str) -> Block:
    (found,) = [server for server in servers(config, "8443 ssl") if name in server.values("server_name")[0].split()]
    return found


def test_the_live_colour_is_a_file_and_not_a_reload() -> None:
    server = https(edge(), "wiki.example.com")
    assert {"$live my-wiki-router-blue", f"$router {ROUTERS['blue']}"} <= set(server.values("set"))
    assert server.find("if (-f /etc/flotilla/live/my-wiki/green)").lines == [
        "set $live my-wiki-router-green",
        f"set $router {ROUTERS['green']}",
    ]
    place = server.find("location /")
    assert place.find("if (!-f /etc/flotilla/live/my-wiki/deployed)").lines == ["return 503"]
    assert place.values("proxy_pass") == ["http://$router:8080"]
    assert place.values("set") == ["$target $live"]
    assert "open_file_cache" not in render_edge(nginx_apps=[NOTES]).replace("No open_file_cache", "")


def test_nothing_may_delay_a_request_between_the_choice_of_its_colour_and_the_router() -> None:
    config = edge()
    http = config.find("http")
    assert http.values("proxy_request_buffering") == ["off"]
    assert http.values("proxy_next_upstream") == ["off"]
    assert http.values("resolver") == []
    assert https(config, "notes.example.com").values("limit_req") == ["zone=rate-notes burst=100 nodelay"]


def test_http_only_redirects() -> None:
    config = edge(nginx_https_port=8443)
    redirects = [server for server in servers(config, "8080") if server.values("return") != ["444"]]
    assert [server.values("return") for server in redirects] == [["308 https://$host:8443$request_uri"]] * 2
    assert "308 https://$host$request_uri" in render_edge(nginx_apps=[NOTES])


def test_unknown_names_are_refused() -> None:
    config = edge()
    assert servers(config, "8080 default_server")[0].values("return") == ["444"]
    refused = servers(config, "8443 ssl default_server")[0]
    assert refused.values("ssl_reject_handshake") == ["on"]
    assert refused.values("return") == ["421"]


def test_a_request_that_names_two_hosts_is_refused_and_the_one_that_was_decided_is_handed_on() -> None:
    for waf in ("off", "on"):
        config = edge(nginx_waf=waf)
        assert {"Host $identity", "X-Forwarded-Host $identity"} <= set(config.find("http").values("proxy_set_header"))
        named = [one for one in servers(config, "8") if one.values("server_name") not in ([], ["_"])]
        assert len(named) == 4
        for server in named:
            assert server.find('if ($identity = "")').lines == ["return 400"]
        # The client's own words stand in the decision alone, and behind the firewall, where they were decided.
        for block in config.walk():
            behind = block.name == "server" and block.values("listen")[0].startswith("unix:")
            used = [line for line in block.lines if "$http_host" in line or ("$host" in line and "proxy" in line)]
            assert used == (["proxy_set_header Host $http_host"] if behind and block.values("proxy_set_header") else [])
        assert [block.name for block in config.walk() if "$http_host" in block.name] == [
            'map "$host|$http_host" $identity'
        ]


def test_behind_the_firewall_an_app_has_a_socket_of_its_own_that_knows_its_names_alone() -> None:
    config = edge(nginx_waf="on")
    for app in (NOTES, WIKI):
        socket = f"unix:/tmp/edge-{app['name']}.sock"
        front = https(config, app["domains"][0])
        assert {target for block in front.walk() for target in block.values("proxy_pass")} == {
            f"http://{socket}",
            "http://$router:8080",
        }
        nobody, own = servers(config, socket)
        assert (nobody.values("listen"), nobody.values("return")) == ([f"{socket} default_server"], ["421"])
        assert own.values("server_name") == [" ".join(app["domains"])]


def test_an_address_among_the_names_needs_a_certificate_for_clients_without_a_server_name() -> None:
    config = edge(nginx_extra_names=["127.0.0.1", "::1", "localhost"])
    assert servers(config, "8443 ssl default_server")[0].values("ssl_certificate") == [
        "/etc/flotilla/certs/selfsigned/tls.crt"
    ]
    assert https(config, "notes.example.com").values("server_name") == [
        "notes.example.com www.example.com 127.0.0.1 [::1] localhost"
    ]


def test_an_issued_certificate_is_named_by_a_variable_so_that_each_handshake_reads_it() -> None:
    """Otherwise Nginx would keep the one that it has read at its start."""
    issued = {
        "nginx_issued_certificate": "/opt/flotilla/nginx/certs/issued",
        "__nginx_certificate_directory": "issued/current",
    }
    config = edge(**issued)
    server = https(config, "notes.example.com")
    assert server.values("ssl_certificate") == ["$current_certificate/tls.crt"]
    assert server.values("ssl_certificate_key") == ["$current_certificate/tls.key"]
    served = config.find("map $ssl_server_name $current_certificate").lines
    assert served == ["default /etc/flotilla/certs/issued/current"]
    assert "$current_certificate" not in render_edge()


def test_a_header_is_added_only_where_the_app_has_none() -> None:
    config = edge(nginx_security_headers={"X-Frame-Options": "DENY"})
    assert config.find("map $upstream_http_x_frame_options $header_my_wiki_1").lines == ['default ""', '"" "DENY"']
    assert "X-Frame-Options $header_my_wiki_1 always" in https(config, "wiki.example.com").values("add_header")


def test_headers_stand_in_one_place_so_that_none_is_lost() -> None:
    for block in edge().walk():
        if block.name.startswith(("location", "if")):
            assert not block.values("add_header")


@pytest.mark.parametrize(
    ("hsts", "expected"), [("max-age=60", ['Strict-Transport-Security "max-age=60" always']), ("", [])]
)
def test_hsts(hsts: str, expected: list[str]) -> None:
    headers = https(edge(nginx_hsts=hsts), "notes.example.com").values("add_header")
    assert [header for header in headers if header.startswith("Strict")] == expected


def test_limits_are_the_apps_own() -> None:
    config = edge()
    assert https(config, "notes.example.com").values("client_max_body_size") == ["25m"]
    assert https(config, "wiki.example.com").values("client_max_body_size") == ["3m"]
    assert config.find("http").values("limit_req_zone") == ["$rate_key zone=rate-notes:4m rate=50r/s"]
    assert not https(config, "wiki.example.com").values("limit_req")


def test_no_proxy_is_believed_unless_it_is_named() -> None:
    assert not edge().find("http").values("set_real_ip_from")
    assert edge(nginx_trusted_proxies=["10.0.0.2"]).find("http").values("set_real_ip_from") == ["10.0.0.2"]
    assert "X-Forwarded-For $remote_addr" in edge().find("http").values("proxy_set_header")


def test_the_release_is_for_the_hosts_own_probes() -> None:
    assert edge().find("map $probe $shown_release").lines == ['default ""', "1 $upstream_http_x_flotilla_release"]
    assert edge(nginx_expose_release=True).find("map $host $shown_release").lines == [
        "default $upstream_http_x_flotilla_release"
    ]


def test_only_current_versions_of_tls() -> None:
    assert edge().find("http").values("ssl_protocols") == ["TLSv1.2 TLSv1.3"]


def test_a_client_has_so_many_requests_at_a_time() -> None:
    config = edge(nginx_client_connections=7)
    assert config.find("http").values("limit_conn_zone") == ["$rate_key zone=clients:4m"]
    assert https(config, "wiki.example.com").values("limit_conn") == ["clients 7"]
    assert "limit_conn" not in render_edge(nginx_apps=[NOTES], nginx_client_connections=0)


def test_banners_are_hidden_but_for_those_that_an_app_needs() -> None:
    hidden = edge(nginx_shown_headers=["X-Nextjs-Redirect"]).find("http").values("proxy_hide_header")
    assert {"X-Powered-By", "Server", "X-AspNet-Version"} <= set(hidden)
    assert "X-Nextjs-Redirect" not in hidden


def test_what_may_be_kept_is_not_forbidden() -> None:
    (found,) = [
        block
        for block in edge().walk()
        if "upstream_http_cache_control" in block.name and "$header_notes" in block.name
    ]
    assert found.name.startswith(
        'map "$upstream_http_cache_control$upstream_http_expires$upstream_http_etag$upstream_http_last_modified" '
    )
    assert found.lines == ['default ""', '"" "no-store, max-age=0"']


# -- the web application firewall ---------------------------------------------------------------------


def test_without_a_firewall_nothing_of_it_is_there() -> None:
    assert "modsecurity" not in render_edge(nginx_apps=[NOTES])


def test_behind_the_firewall_the_colour_is_chosen_when_the_body_is_here() -> None:
    config = edge(nginx_waf="on")
    place = https(config, "wiki.example.com").find("location /")
    assert place.values("modsecurity") == ["on"]
    assert place.values("proxy_pass") == ["http://unix:/tmp/edge-my-wiki.sock"]
    assert place.find("if (!-f /etc/flotilla/live/my-wiki/deployed)").lines == ["return 503"]
    (inner,) = [
        server
        for server in servers(config, "unix:/tmp/edge-my-wiki.sock")
        if server.values("server_name") == ["wiki.example.com"]
    ]
    assert inner.find("if (-f /etc/flotilla/live/my-wiki/green)").lines == [
        "set $live my-wiki-router-green",
        f"set $router {ROUTERS['green']}",
    ]
    assert inner.find("location /").values("proxy_pass") == ["http://$router:8080"]
    # The client's address, id and scheme are the outer server's to say.
    assert [value.partition(" ")[0] for value in inner.values("proxy_set_header")] == ["Host", "Upgrade", "Connection"]
    assert "limit_req" not in {line.partition(" ")[0] for line in inner.lines}


def test_an_app_does_without_some_rules_and_on_some_paths() -> None:
    app = {**NOTES, "waf_excluded_rules": [942100, 941100], "waf_excluded_paths": ["/api/import"]}
    server = https(edge(nginx_apps=[app, WIKI], nginx_waf="detect"), "notes.example.com")
    assert server.find("location /").values("modsecurity_rules") == ['"SecRuleRemoveById 942100 941100"']
    assert server.find("location /api/import/").values("modsecurity") == []
    assert server.find("location /api/import/").values("proxy_pass") == ["http://unix:/tmp/edge-notes.sock"]


@pytest.mark.parametrize(("mode", "engine"), [("on", "On"), ("detect", "DetectionOnly")])
def test_the_firewall_writes_down_no_headers_and_bodies(mode: str, engine: str) -> None:
    rules = render_waf(mode).splitlines()
    assert f"SecRuleEngine {engine}" in rules
    assert "SecAuditLogParts AHZ" in rules
    assert 'SecRuleUpdateTargetByTag "OWASP_CRS" "!REQUEST_HEADERS:Authorization"' in rules


@pytest.mark.parametrize("waf", ["off", "on"])
def test_what_is_asked_past_the_firewall_hands_on_nothing_of_the_client(waf: str) -> None:
    """Each place from which a request goes on: judged, left out by the app's own words, or with nothing in it."""
    app = {**NOTES, "waf_excluded_paths": ["/api/import"], "readiness_path": "/ready"}
    server = https(edge(nginx_apps=[app], nginx_waf=waf), "notes.example.com")
    going_on = {block.name: block for block in server.walk() if block.values("proxy_pass")}
    assert going_on.keys() == {"location /", "location = /.flotilla/health"} | (
        {"location /api/import/"} if waf == "on" else set()
    )
    assert going_on["location /"].values("modsecurity") == (["on"] if waf == "on" else [])
    check = going_on["location = /.flotilla/health"]
    sent_on = {'rewrite ^ "/ready?" break', "proxy_method GET", "proxy_pass_request_headers off", 'proxy_set_body ""'}
    assert sent_on < set(check.lines)
    assert check.find("if ($http_upgrade)").lines == ["return 400"]


def test_whatever_is_not_read_whole_is_refused() -> None:
    """ModSecurity goes on in silence where a limit is reached: each limit has the rule that refuses."""
    text = render_waf("on")
    limits = dict(re.findall(r"^(Sec\w*Limit(?:Recursion|Action)?) (\S+)$", text, re.MULTILINE))
    refusing = {
        "SecRequestBodyLimit": "SecRequestBodyLimitAction Reject",
        "SecRequestBodyNoFilesLimit": "SecRequestBodyLimitAction Reject",
        "SecRequestBodyLimitAction": "SecRequestBodyLimitAction Reject",
        "SecRequestBodyJsonDepthLimit": 'SecRule REQBODY_ERROR "!@eq 0"',
        "SecArgumentsLimit": f'SecRule &ARGS "@ge {limits["SecArgumentsLimit"]}"',
        "SecPcreMatchLimit": 'SecRule TX:/^MSC_/ "!@streq 0"',
        "SecPcreMatchLimitRecursion": 'SecRule TX:/^MSC_/ "!@streq 0"',
    }
    assert limits.keys() == refusing.keys()
    for limit, rule in refusing.items():
        assert rule in text, limit


def test_an_edge_without_apps_still_refuses() -> None:
    config = edge(nginx_apps=[])
    assert len(servers(config, "8443 ssl")) == 1


def test_challenges_are_answered_over_http_and_the_rest_redirects() -> None:
    config = edge(nginx_acme_thumbprint="thumb_print-1", __nginx_certificate_directory="acme/current")
    plain = next(one for one in servers(config, "8080") if "notes.example.com" in one.values("server_name")[0])
    assert plain.values("return") == []
    answered = plain.find('location ~ "^/\\.well-known/acme-challenge/(?<acme_token>[A-Za-z0-9_-]{1,128})$"')
    assert answered.values("return") == ['200 "$acme_token.thumb_print-1"']
    assert plain.find("location /").values("return") == ["308 https://$host$request_uri"]


def test_a_certificate_by_acme_is_read_at_each_handshake() -> None:
    config = edge(nginx_acme_thumbprint="x", __nginx_certificate_directory="acme/current")
    server = https(config, "notes.example.com")
    assert server.values("ssl_certificate") == ["$current_certificate/tls.crt"]
    assert server.values("ssl_certificate_key") == ["$current_certificate/tls.key"]
    assert config.find("map $ssl_server_name $current_certificate").lines == [
        "default /etc/flotilla/certs/acme/current"
    ]
    given = edge(nginx_acme_thumbprint="x", __nginx_certificate_directory="0123")
    assert https(given, "notes.example.com").values("ssl_certificate") == ["/etc/flotilla/certs/0123/tls.crt"]
