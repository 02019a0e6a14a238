"""What could fill the disk that Postgres' volume lies on: logs, /tmp and what the edge and routers collect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.filter.flotilla_routes import flotilla_uploads_at_once
from tests.unit.nginx_rendering import parse, render_router

ROOT = Path(__file__).resolve().parents[2]
STACKS = [
    (file.parent.name, name)
    for file in sorted((ROOT / "compose").glob("*/compose.yaml"))
    for name in yaml.safe_load(file.read_text())["services"]
]


def service(stack: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / f"compose/{stack}/compose.yaml").read_text())["services"][name]
    return found


@pytest.mark.parametrize(("stack", "name"), STACKS)
def test_every_service_of_ours_has_a_limit_of_its_log(stack: str, name: str) -> None:
    logging = service(stack, name)["logging"]
    assert logging["driver"] == "json-file"
    assert {"max-size", "max-file"} <= logging["options"].keys()


@pytest.mark.parametrize(("stack", "name"), STACKS)
def test_every_service_of_ours_writes_to_declared_places_alone(stack: str, name: str) -> None:
    """`/tmp` is memory, of which there is a limit; no volume is without a name, and the image is not written to."""
    found = service(stack, name)
    assert found["read_only"] is True
    assert "/tmp" in [entry.partition(":")[0] for entry in found["tmpfs"]]
    assert found["deploy"]["resources"]["limits"]["memory"]
    assert all(":" in mount for mount in found.get("volumes", ()))


@pytest.mark.parametrize(("limit", "expected"), [(25, 40), (1, 1024), (1000, 4)])
def test_a_router_collects_a_gigabyte_of_bodies_at_most(limit: int, expected: int) -> None:
    app = {"name": "notes", "routes": [{"path": "/", "service": "ui", "port": 80}], "upload_limit_mb": limit}
    http = parse(render_router(app)).find("http")
    assert flotilla_uploads_at_once(app) == expected
    assert f"large-bodies {expected}" in http.values("limit_conn")
    # Every body that is larger than the buffer in memory is counted, and one of unknown length as a large one.
    assert http.values("client_body_buffer_size") == ["64k"]
    assert [block for block in http.walk() if block.values("limit_conn")] == [http]


def test_a_router_collects_no_answers_on_the_disk() -> None:
    config = parse(render_router({"name": "notes", "routes": [{"path": "/", "service": "ui", "port": 80}]}))
    assert [value for block in config.walk() for value in block.values("proxy_max_temp_file_size")] == ["0"]
