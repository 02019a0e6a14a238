"""Secrets are files that belong to the user of the container that mounts them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from flotilla.ownership import assign_secrets, run_as_root


def document(**services: list[str]) -> dict[str, Any]:
    used = sorted({secret for secrets in services.values() for secret in secrets})
    return {
        "services": {
            name: {"secrets": [{"source": secret, "target": f"/run/secrets/{secret}"} for secret in secrets]}
            for name, secrets in services.items()
        },
        "secrets": {secret: {"file": f"/opt/notes/secrets/v1/{secret}"} for secret in used},
    }


class Images:
    """An engine that knows the users of images."""

    def __init__(self, **users: str) -> None:
        self.users = users

    def image(self, reference: str) -> dict[str, Any] | None:
        return {"Config": {"User": self.users[reference]}}


@pytest.mark.parametrize("user", ["", "0", "root", "0:0", "root:root", "0:1000"])
def test_an_image_that_runs_as_root_is_refused_where_the_file_is_silent(user: str) -> None:
    resolved: Any = SimpleNamespace(users={"web": "", "stated": "0:0", "other": ""})
    images = {"web": "rooted", "stated": "rooted", "other": "named"}
    engine: Any = Images(rooted=user, named="app")
    (problem,) = run_as_root(engine, resolved, images, "compose/app/compose.yaml")
    assert (problem.where, problem.variable) == ("compose/app/compose.yaml", "services.web.user")
    assert "rooted runs as root" in problem.what
    assert all(way in problem.next for way in ('user: "1000:1000"', 'user: "0:0"', "cap_add"))


def test_two_users_of_a_secret_get_a_file_each() -> None:
    written, files = assign_secrets({"compose.json": document(api=["token"], ui=["token"])}, {"api": 10001, "ui": 101})
    assert files == {"token-10001": ("token", 10001), "token-101": ("token", 101)}
    services = written["compose.json"]["services"]
    assert services["api"]["secrets"] == [{"source": "token-10001", "target": "/run/secrets/token"}]
    assert services["ui"]["secrets"] == [{"source": "token-101", "target": "/run/secrets/token"}]
    assert written["compose.json"]["secrets"]["token-101"] == {"file": "/opt/notes/secrets/v1/token-101"}


def test_one_user_of_a_secret_in_two_files_shares_one() -> None:
    documents = {"compose.json": document(api=["token"]), "migration.json": document(migrate=["token"])}
    _, files = assign_secrets(documents, {"api": 10001, "migrate": 10001})
    assert files == {"token-10001": ("token", 10001)}


def test_the_input_stays_as_it_was() -> None:
    original = document(api=["token"])
    assign_secrets({"compose.json": original}, {"api": 1})
    assert original == document(api=["token"])


def test_a_file_without_secrets_gets_none() -> None:
    written, files = assign_secrets({"compose.json": {"services": {"api": {}}}}, {})
    assert (written, files) == ({"compose.json": {"services": {"api": {}}}}, {})
