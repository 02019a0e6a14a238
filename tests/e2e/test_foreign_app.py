"""An app that nobody here wrote is deployed by editing inventories/ and compose/app/, and nothing else.

The app is Miniflux, a feed reader, from Debian's package. `foreign_app/` holds the edited files alone.
docs/how-to/deploy-an-existing-app.md tells the same as a recipe.
"""

from __future__ import annotations

import filecmp
import html
import http.cookies
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from flotilla.vault import locate, open_vault

from tests.e2e.fleet import HOST, ROOT, Environment, PinnedConnection, lab_down, lab_playbook
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Result, Stream, Target

APP = "miniflux"
DOMAIN = "reader.example.com"
USER = "ada"
CATEGORY = "Field notes"
FIRST, SECOND = "2.2.6-r1", "2.2.6-r2"
EDITS = Path(__file__).with_name("foreign_app")
EDITED = {"inventories", "compose/app"}
LEFT_OUT = (".git", ".venv", ".lab", ".vault", "build", "__pycache__", ".*_cache", ".ansible", ".hypothesis")
SECONDS = 1500


@dataclass(frozen=True)
class Team:
    """A team with a copy of the project, its own app in it, and a droplet.

    edited: the paths of the copy that are not as they were in the project.
    """

    project: Path
    droplet: Environment
    edited: frozenset[str]

    def playbook(self, name: str, *arguments: str) -> str:
        """What a playbook of the team's copy prints; fails the test when it fails."""
        inventories = ("-i", "inventories/staging", "-i", str(self.droplet.lab_overlay))
        done = subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), name, *inventories, *arguments],
            cwd=self.project,
            env=os.environ
            | {
                "ANSIBLE_CONFIG": str(self.project / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout[-12000:]}"
        return done.stdout

    def secret(self, name: str) -> str:
        """A value of the team's vault."""
        values, _ = open_vault(locate(self.droplet.lab_overlay, self.project, {}), self.project)
        return str(values[name])


@dataclass
class Page:
    """What a browser shows."""

    status: int
    path: str
    text: str
    release: str


@dataclass
class Browser:
    """As much of a browser as a login takes: cookies, redirects, forms with their hidden token."""

    droplet: Environment
    cookies: dict[str, str] = field(default_factory=dict)

    def open(self, path: str, form: dict[str, str] | None = None) -> Page:
        """GET a path, or POST a form to it; follow where that leads."""
        context = ssl.create_default_context(cafile=self.droplet.ca)
        connection = PinnedConnection(self.droplet.address, DOMAIN, context, timeout=60)
        headers = {"Host": DOMAIN, "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request("GET" if form is None else "POST", path, urlencode(form or {}), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie", []):
            self.cookies |= {name: morsel.value for name, morsel in http.cookies.SimpleCookie(line).items()}
        location = answer.headers.get("Location")
        if location:
            return self.open(urlsplit(location).path)
        return Page(answer.status, path, html.unescape(text), answer.headers.get("X-Flotilla-Release", ""))

    def submit(self, page: str, action: str, **fields: str) -> Page:
        """Fill in the form on a page and send it."""
        token = re.search(r'name="csrf" value="([^"]+)"', self.open(page).text)
        assert token is not None, f"{page} has no form"
        return self.open(action, {"csrf": token[1], **fields})


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A bare droplet, the app's images in the team's registry, and a copy of the project with the app in it."""
    project = tmp_path_factory.mktemp("team") / "project"
    shutil.copytree(ROOT, project, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.rmtree(project / "compose/app")
    shutil.copytree(EDITS, project, dirs_exist_ok=True)
    edited = frozenset(differences(ROOT, project))

    droplet = Environment("e2e-foreign-app")
    builds = [
        {"name": f"acme/{APP}", "context": str(EDITS / "compose/app"), "tags": [tag], "args": {"REVISION": tag}}
        for tag in (FIRST, SECOND)
    ]
    lab_down(droplet)
    try:
        lab_playbook(
            droplet,
            *("-e", "lab_index=auto", "-e", "lab_https_port=0", "-e", "lab_http_port=0"),
            *("-e", json.dumps({"lab_builds": builds})),
        )
        team = Team(project, droplet, edited)
        team.playbook("playbooks/secrets.yml", "-e", f"@{droplet.directory}/given_secrets.yml")
        yield team
    finally:
        if not os.environ.get("FLOTILLA_KEEP"):
            lab_down(droplet)


@pytest.fixture(scope="module")
def served(team: Team) -> Team:
    """The first release, on what was a bare droplet."""
    team.playbook("deploy.yml")
    return team


@pytest.fixture(scope="module")
def reader(served: Team) -> Browser:
    """A browser whose user has logged in and made a category."""
    browser = Browser(served.droplet)
    home = browser.submit("/", "/login", username=USER, password=served.secret("vault_miniflux_admin_password"))
    assert (home.status, home.path) == (200, "/unread")
    browser.submit("/category/create", "/category/save", title=CATEGORY)
    return browser


@pytest.fixture(scope="module")
def rolled(served: Team, reader: Browser) -> Result:
    """What others saw while the second release replaced the first."""
    streams = (
        Stream(Kind.GET, Mode.KEEPALIVE, rate=10, path="/healthcheck"),
        Stream(Kind.GET, Mode.NEW, rate=5, path="/healthcheck"),
    )
    target = Target(served.droplet.url, DOMAIN, str(served.droplet.ca))
    with BackgroundLoad(Plan(target, streams, seconds=SECONDS)) as load:
        served.playbook("deploy.yml", "-e", f"version={SECOND}")
        return load.stop()


def differences(left: Path, right: Path, below: str = "") -> set[str]:
    """The files and directories, relative, that two trees do not have in common or that differ."""
    compared = filecmp.dircmp(left / below, right / below, ignore=[])
    ignored = shutil.ignore_patterns(*LEFT_OUT)
    names = compared.left_only + compared.right_only + compared.diff_files + compared.funny_files
    found = {str(Path(below, name)) for name in set(names) - ignored(str(left / below), names)}
    for name in set(compared.common_dirs) - ignored(str(left / below), compared.common_dirs):
        found |= differences(left, right, str(Path(below, name)))
    return found


def test_nothing_else_was_edited(team: Team) -> None:
    assert "compose/app/compose.yaml" in team.edited
    assert {path for path in team.edited if not any(Path(path).is_relative_to(place) for place in EDITED)} == set()


def test_its_page_is_served_over_https(served: Team) -> None:
    page = Browser(served.droplet).open("/")
    assert page.status == 200
    assert "Miniflux" in page.text
    assert page.release.endswith(FIRST)


def test_nobody_gets_in_without_the_password(served: Team) -> None:
    page = Browser(served.droplet).submit("/", "/login", username=USER, password="not it")
    assert "/unread" not in page.path
    assert Browser(served.droplet).open("/categories").path == "/"


def test_what_a_user_makes_is_there_to_read(reader: Browser) -> None:
    assert CATEGORY in reader.open("/categories").text


def test_what_a_user_makes_is_in_the_droplets_postgres(served: Team, reader: Browser) -> None:
    assert served.droplet.sql(f"SELECT count(*) FROM categories WHERE title = '{CATEGORY}'", APP) == ["1"]


def test_its_scheduler_runs_once(served: Team) -> None:
    colours = served.droplet.colours(APP)
    schedulers = [name for containers in colours.values() for name in containers if "scheduler" in name]
    assert len(schedulers) == 1


def test_no_request_fails_while_a_release_replaces_another(rolled: Result) -> None:
    assert rolled.failures == []
    assert rolled.requests > 0


def test_a_new_release_finds_what_was_made(rolled: Result, reader: Browser) -> None:
    page = reader.open("/categories")
    assert page.release.endswith(SECOND)
    assert CATEGORY in page.text, "the category is gone"
    assert page.path == "/categories", "the user was logged out"


def test_the_release_before_is_gone(rolled: Result, served: Team) -> None:
    (colour,) = served.droplet.colours(APP)
    assert served.droplet.journal(APP)["live"]["colour"] == colour


def test_a_deploy_of_what_serves_changes_nothing(rolled: Result, served: Team) -> None:
    said = served.playbook("deploy.yml", "-e", f"version={SECOND}")
    assert re.search(rf"^{HOST}\s.*changed=0 .*failed=0", said, re.MULTILINE), said
