"""A host read without the app's source: its files in a temporary directory, its engine a stand-in."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flotilla.engine import Engine, EngineError
from flotilla.journal import Colour, Journal, Slot, save
from flotilla.store import Release, Standing, Store
from flotilla.view import View, ViewError


@dataclass(frozen=True)
class FakeEngine(Engine):
    """Containers by project, as `inspect` gives them."""

    projects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    mute: bool = False

    def project(self, name: str) -> list[dict[str, Any]]:
        if self.mute:
            raise EngineError(0, "the Docker engine did not answer")
        return self.projects.get(name, [])

    def logs(self, container: str, lines: int) -> str:
        return "".join(f"{container} {number}\n" for number in range(lines))


def inspected(service: str, status: str = "running") -> dict[str, Any]:
    return {
        "Id": f"id-{service}",
        "Name": f"/notes-blue-{service}-1",
        "RestartCount": 0,
        "State": {"Status": status},
        "Config": {"Labels": {"com.docker.compose.service": service}},
    }


@pytest.fixture
def view(tmp_path: Path) -> View:
    store = Store(tmp_path / "notes")
    store.create()
    save(store.journal, Journal(live=Slot("r1", Colour.BLUE)))
    store.directory("r1").mkdir()
    services = {"start_with_colour": ["api", "flotilla-router"], "start_at_commit": [], "one_shots": []}
    store.write(Release("r1", "1.0.0", "f", "s", {"api": "a@sha256:1"}, Standing.LIVE, services=services))
    store.record({"when": "2025-01-01T12:00:00Z", "outcome": "deployed", "to": "r1"})
    with (store.base / "history.jsonl").open("a") as file:
        file.write('{"when": "cut off by a power fail')
    (tmp_path / "flotilla/nginx/live/notes").mkdir(parents=True)
    (tmp_path / "flotilla/nginx/live/notes/deployed").touch()
    engine = FakeEngine(projects={"notes-blue": [inspected("api"), inspected("flotilla-router")]})
    return View("app-1", engine, tmp_path, tmp_path / "flotilla/nginx", tmp_path / "flotilla/lock.json")


def test_the_status_of_a_whole_host(view: View) -> None:
    found = view.status()
    assert list(found["apps"]) == ["notes"]
    assert found["apps"]["notes"]["problems"] == []
    assert found["apps"]["notes"]["since"] == "2025-01-01T12:00:00Z"
    assert found["lock"] == {}
    assert all(room["free"] <= room["total"] for room in found["disks"].values())


def test_an_engine_that_does_not_answer_is_the_problem(view: View) -> None:
    mute = View("app-1", FakeEngine(mute=True), view.root, view.edge, view.lock)
    assert mute.status()["apps"]["notes"]["problems"] == ["the Docker engine did not answer"]


@pytest.mark.parametrize(("left", "expired"), [(60, False), (-1, True)])
def test_the_lock_is_read(view: View, left: float, expired: bool) -> None:
    lease = {"token": "secret", "owner": "mia@laptop", "purpose": "deploy", "since": 1.0, "expires": time.time() + left}
    view.lock.write_text(json.dumps(lease))
    found = view.status()["lock"]
    assert (found["owner"], found["expired"]) == ("mia@laptop", expired)
    assert "secret" not in json.dumps(found)


def test_a_broken_lock_is_a_lock(view: View) -> None:
    view.lock.write_text("{")
    assert view.status()["lock"]["owner"] == "somebody"


def test_an_unknown_app_is_refused_with_those_that_there_are(view: View) -> None:
    with pytest.raises(ViewError, match=r"no app `shop` \(apps: notes\)"):
        view.status("shop")


@pytest.mark.parametrize("name", ["../etc", "/etc", ""])
def test_an_app_s_name_is_no_path(view: View, name: str) -> None:
    if name:
        with pytest.raises(ViewError):
            view.one(name)
    else:
        assert view.one(name) == "notes"


def test_which_of_two_apps_must_be_said(view: View) -> None:
    (view.root / "shop").mkdir()
    save(view.root / "shop/state.json", Journal())
    with pytest.raises(ViewError, match="-e app="):
        view.one()
    with pytest.raises(ViewError, match="nothing of shop serves"):
        view.live("shop")


def test_a_history_with_a_broken_last_line(view: View) -> None:
    assert view.history("", 5) == [{"app": "notes", "when": "2025-01-01T12:00:00Z", "outcome": "deployed", "to": "r1"}]


def test_logs_leave_the_router_out_unless_it_is_asked_for(view: View) -> None:
    assert view.logs("notes", "", 2) == [{"container": "notes-blue-api-1", "lines": ["id-api 0", "id-api 1"]}]
    assert view.logs("notes", "flotilla-router", 1)[0]["container"] == "notes-blue-flotilla-router-1"
    with pytest.raises(ViewError, match=r"no service `db` that runs \(services: api\)"):
        view.logs("notes", "db", 1)


def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A stand-in for the `docker` command."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def test_a_command_runs_in_the_service_s_container(view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, monkeypatch, 'printf "%s|" "$@"; echo wrong >&2; exit 3')
    done = view.execute("notes", "api", ["echo", "two words"], 5)
    assert (done["rc"], done["stdout"], done["stderr"]) == (3, "exec|id-api|echo|two words|", "wrong\n")
    assert done["container"] == "notes-blue-api-1"


def test_a_command_that_takes_too_long_is_left(view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, monkeypatch, "echo begun; exec sleep 5")
    done = view.execute("notes", "api", ["x"], 0.3)
    assert (done["rc"], done["stdout"]) == (124, "begun\n")
    assert "still ran after 0.3 s" in done["note"]


def test_a_command_needs_a_service_that_runs(view: View) -> None:
    with pytest.raises(ViewError, match=r"-e service=<name> \(services: api\)"):
        view.execute("notes", "", ["x"], 5)
    stopped = View("app-1", FakeEngine(projects={"notes-blue": [inspected("api", "exited")]}), view.root)
    with pytest.raises(ViewError, match="no container of notes's api runs"):
        stopped.execute("notes", "api", ["x"], 5)
