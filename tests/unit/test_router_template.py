"""roles/app/templates/router.conf.j2: the routes of a release as Nginx configuration."""

from __future__ import annotations

from typing import Any

from tests.unit.nginx_rendering import Block, parse, render_router

API: dict[str, Any] = {"path": "/api", "service": "api", "port": 3000}
UI: dict[str, Any] = {"path": "/", "service": "ui", "port": 8080}


def router(*routes: dict[str, Any]) -> Block:
    return parse(render_router({"name": "notes", "routes": list(routes)}))


def test_a_prefix_ends_at_a_slash() -> None:
    config = router(API, UI)
    for name in ("location = /api", "location /api/"):
        assert config.find(name).values("proxy_pass") == ["http://$service:3000"]
        assert config.find(name).values("set") == ["$service ${FLOTILLA_UPSTREAM_0}"]
    assert config.find("location /").values("set") == ["$service ${FLOTILLA_UPSTREAM_1}"]


def test_release_and_colour_are_left_to_the_container() -> None:
    config = router({**API, "cors_origins": ["*"], "websocket": True}, {**UI, "spa": True})
    places = [block for block in config.walk() if block.name.startswith("location")]
    assert len(places) == 6
    for place in places:
        assert 'X-Flotilla-Release "${FLOTILLA_RELEASE}" always' in place.values("add_header")
        assert 'X-Flotilla-Colour "${FLOTILLA_COLOUR}" always' in place.values("add_header")


def test_no_name_chooses_anything_in_a_router() -> None:
    """Whose request it is has been decided by the edge."""
    config = router(API, UI)
    listening = [block.values("listen")[0] for block in config.walk() if block.name == "server"]
    assert len(listening) == len(set(listening))


def test_nothing_else_is_taken_from_the_environment() -> None:
    text = render_router({"name": "notes", "routes": [API, UI]})
    assert {part.partition("}")[0] for part in text.split("${")[1:]} == {
        "FLOTILLA_RELEASE",
        "FLOTILLA_COLOUR",
        "FLOTILLA_UPSTREAM_0",
        "FLOTILLA_UPSTREAM_1",
    }


def test_a_stripped_prefix_is_matched_literally() -> None:
    config = router({**API, "path": "/v1.0", "strip_prefix": True})
    assert config.find("location /v1.0/").values("rewrite") == [r"^/v1\.0(?:/(.*))?$ /$1 break"]


def test_without_a_route_for_everything_the_rest_is_not_found() -> None:
    assert router(API).find("location /").values("return") == ["404"]


def test_websockets_have_a_place_of_their_own() -> None:
    config = router({**API, "websocket": True, "timeout_seconds": 30})
    place = config.find("location @websocket_0")
    assert "Upgrade $http_upgrade" in place.values("proxy_set_header")
    assert "Host $http_host" in place.values("proxy_set_header")
    assert place.values("proxy_read_timeout") == ["3600s"]
    assert config.find("location /api/").values("proxy_read_timeout") == ["30s"]
    assert not router(API).find("location /api/").values("error_page")


def test_a_page_that_is_missing_becomes_the_index() -> None:
    config = router({**UI, "spa": True})
    assert config.find("location @page_0").values("error_page") == ["403 404 = @index_0"]
    assert config.find("location @index_0").values("rewrite") == ["^ /index.html? break"]


def test_the_index_of_an_unstripped_prefix_is_below_it() -> None:
    assert router({**UI, "path": "/admin", "spa": True}).find("location @index_0").values("rewrite") == [
        "^ /admin/index.html? break"
    ]
    stripped = router({**UI, "path": "/admin", "spa": True, "strip_prefix": True})
    assert stripped.find("location @index_0").values("rewrite") == ["^ /index.html? break"]


def cache_map(config: Block, number: int) -> list[str]:
    (found,) = [
        block for block in config.walk() if block.name.startswith("map") and block.name.endswith(f"$cache_{number}")
    ]
    return found.lines


def test_cache_rules() -> None:
    config = router({**API, "cache_seconds": 0}, {**UI, "cache_seconds": 86400, "spa": True})
    assert cache_map(config, 0) == ['default ""', r'"~^1\|\|" "no-store"']
    assert cache_map(config, 1) == [
        'default ""',
        r'"~^1\|\|text/html" "no-cache"',
        r'"~^1\|\|[^|]*\|." "private, max-age=86400"',
        r'"~^1\|\|" "public, max-age=86400"',
    ]


def test_a_route_without_cache_rules_leaves_caching_to_the_service() -> None:
    assert "Cache-Control" not in render_router({"name": "notes", "routes": [API]})


def test_cors_answers_the_listed_origins_only() -> None:
    config = router({**API, "cors_origins": ["https://a.example.com", "http://b.example.com:3000"]})
    assert config.find("map $http_origin $cors_0").lines == [
        'default ""',
        '"https://a.example.com" "$http_origin"',
        '"http://b.example.com:3000" "$http_origin"',
    ]
    place = config.find("location /api/")
    assert "Access-Control-Allow-Origin $cors_0 always" in place.values("add_header")
    assert "Vary Origin always" in place.values("add_header")
    assert "Access-Control-Allow-Origin" in place.values("proxy_hide_header")
    assert not [value for value in place.values("add_header") if "Credentials" in value]


def test_cors_for_everyone() -> None:
    assert router({**API, "cors_origins": ["*"]}).find("map $http_origin $cors_0").lines == ['default "*"']


def test_without_origins_the_service_answers_cors_itself() -> None:
    assert "Access-Control" not in render_router({"name": "notes", "routes": [API]})


def test_a_routes_rate_is_counted_per_client_and_not_for_readiness() -> None:
    limited = {**API, "rate_limit": {"requests_per_minute": 6, "burst": 3}, "websocket": True}
    text = render_router({"name": "notes", "routes": [limited, UI], "readiness": {"path": "/api/ready"}})
    config = parse(text)
    assert config.find("http").values("limit_req_zone") == ["$route_client zone=route-0:2m rate=6r/m"]
    for name in ("location = /api", "location /api/", "location @websocket_0"):
        assert config.find(name).values("limit_req") == ["zone=route-0 burst=3 nodelay"]
        assert "Retry-After $retry_after_0 always" in config.find(name).values("add_header")
    assert not config.find("location /").values("limit_req")
    assert config.find("map $request_uri $route_client").lines == [
        "default $client_network",
        '"~^/api/ready(?:[?]|$)" ""',
    ]
    assert config.find("http").values("real_ip_header") == ["X-Real-IP"]


def test_without_rates_the_router_counts_nobody() -> None:
    text = render_router({"name": "notes", "routes": [API, UI]})
    assert "limit_req" not in text and "real_ip" not in text


def test_a_routes_size() -> None:
    config = router({**API, "upload_limit_mb": 3}, UI)
    assert config.find("location /api/").values("client_max_body_size") == ["3m"]
    assert not config.find("location /").values("client_max_body_size")


def test_a_route_that_clears_what_the_browser_keeps() -> None:
    config = router({**API, "clear_site_data": True}, UI)
    assert "Clear-Site-Data $clear_site_data" in config.find("location /api/").values("add_header")
    assert not [value for value in config.find("location /").values("add_header") if "Clear" in value]
