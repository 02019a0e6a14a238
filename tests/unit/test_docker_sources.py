"""roles/docker: the source of Docker's own repository is read by apt, also where the repository cannot be reached."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[2] / "roles" / "docker"


def render(distribution: str, release: str) -> str:
    """The source as the role writes it on that system."""
    variables: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    variables |= yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    variables["ansible_managed"] = "Ansible managed"
    variables["ansible_facts"] = {"distribution": distribution, "distribution_release": release}
    text = (ROLE / "templates" / "flotilla-docker.sources").read_text()
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(text).render(variables)


def index(sources: str, directory: Path) -> list[str]:
    """The addresses of the package indexes that apt would fetch for a file with this text."""
    (directory / "flotilla-docker.sources").write_text(sources)
    options = ["-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={directory}"]
    wanted = ["--format", "$(URI)", "Created-By: Packages", "Optional: no"]
    apt = subprocess.run(
        ["apt-get", "indextargets", "--no-release-info", *options, *wanted], capture_output=True, text=True, check=True
    )
    assert apt.stderr == ""
    return apt.stdout.splitlines()


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt-get judges the file; this machine has none")
@pytest.mark.parametrize(
    ("distribution", "release"), [("Debian", "bookworm"), ("Debian", "trixie"), ("Ubuntu", "noble")]
)
def test_apt_would_fetch_the_index_of_the_release(distribution: str, release: str, tmp_path: Path) -> None:
    (address,) = index(render(distribution, release), tmp_path)
    assert address.startswith(
        f"https://download.docker.com/linux/{distribution.lower()}/dists/{release}/stable/binary-"
    )


def test_only_the_pinned_key_may_sign() -> None:
    fetched = yaml.safe_load((ROLE / "tasks" / "repository.yml").read_text())[0]["ansible.builtin.get_url"]
    assert fetched["dest"] == "{{ __docker_upstream_key }}"
    assert fetched["checksum"] == "{{ docker_upstream_key_checksum }}"
    assert "Signed-By: /etc/apt/keyrings/flotilla-docker.asc" in render("Debian", "bookworm").splitlines()
