"""What the lab makes of an inventory."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import docker
import pytest
from ansible.errors import AnsibleFilterError

ROOT = Path(__file__).parents[2]
LAB = ROOT / "tests/lab"


def load(path: Path) -> ModuleType:
    """Import a plugin that lies in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look their own module up.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


lab = load(LAB / "roles/lab/filter_plugins/lab.py")
containers = load(LAB / "roles/lab/module_utils/lab_containers.py")
images = load(LAB / "roles/lab/library/lab_images.py")


def host(name: str, address: str, *groups: str, **variables: Any) -> dict[str, Any]:
    """Return a host's variables."""
    return {"inventory_hostname": name, "private_address": address, "group_names": list(groups), **variables}


def test_a_droplet_keeps_the_last_octet_and_gets_its_inventory_size() -> None:
    hosts = [host("db-1", "10.0.0.21", "postgres", droplet_cpus=4, droplet_memory_mb=4096)]
    assert containers.placed(lab.lab_droplets(hosts, "lab"), 7) == [
        {
            "host": "db-1",
            "container": "lab-db-1",
            "octet": 21,
            "address": "10.77.7.21",
            "private_address": "10.78.7.21",
            "cpus": 4.0,
            "memory_mb": 4096,
            "suite": "trixie",
            "image": "droplet-trixie",
            "serves": False,
        }
    ]


@pytest.mark.parametrize(
    ("hosts", "entry"),
    [
        ([host("a-2", "10.0.0.2", "app"), host("a-1", "10.0.0.1", "app")], ["a-1"]),
        ([host("a-1", "10.0.0.1", "app"), host("lb-1", "10.0.0.9", "loadbalancer")], ["lb-1"]),
        ([host("db-1", "10.0.0.1", "postgres")], []),
    ],
)
def test_one_droplet_at_most_takes_the_users_traffic(hosts: list[dict[str, Any]], entry: list[str]) -> None:
    assert [droplet["host"] for droplet in lab.lab_droplets(hosts, "lab") if droplet["serves"]] == entry


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ([host("a-1", "")], "a-1 has no private_address"),
        ([host("a-1", "10.0.0.253")], "belongs to the lab itself"),
        ([host("a-1", "10.0.0.5"), host("a-2", "10.0.1.5")], "5 belongs to a-1"),
    ],
)
def test_addresses_that_the_lab_cannot_play_are_refused(hosts: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        lab.lab_droplets(hosts, "lab")


def network(name: str, subnet: str) -> dict[str, Any]:
    """Return a network as the engine describes it."""
    return {"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}}


def test_a_lab_keeps_its_networks() -> None:
    assert containers.choose_index([network("mine-public", "10.77.42.0/24")], "mine") == 42


def test_a_lab_that_is_up_gets_no_other_networks() -> None:
    with pytest.raises(containers.LabError, match="has the lab_index 42, not 7"):
        containers.choose_index([network("mine-public", "10.77.42.0/24")], "mine", "7")


def test_a_new_lab_takes_networks_that_nobody_has() -> None:
    others = [network("bridge", "172.17.0.0/16"), {"Name": "host", "IPAM": {"Config": None}}]
    first = containers.choose_index(others, "mine")
    second = containers.choose_index([network("other-private", f"10.78.{first}.0/24")], "mine")
    assert first != second
    assert {first, second} <= set(range(100, 255))


def test_no_free_network_is_an_error() -> None:
    taken = [network(f"lab{index}-public", f"10.77.{index}.0/24") for index in range(1, 255)]
    with pytest.raises(containers.LabError, match="take one down"):
        containers.choose_index(taken, "mine")


def droplet_container(directory: str = "/lab", **changes: Any) -> Any:
    """Return the container of a droplet that serves, with changes of the host."""
    (wanted,) = containers.placed(lab.lab_droplets([host("a-1", "10.0.0.11", "app", **changes)], "mine"), 7)
    return containers.droplet("mine", wanted, "droplet:1", Path(directory), {"key": "1"}, {443: 8443})


def test_a_container_is_made_anew_when_what_it_is_made_of_changes() -> None:
    assert droplet_container() == droplet_container()
    digests = {droplet_container().digest, droplet_container("/other").digest, droplet_container(droplet_cpus=4).digest}
    assert len(digests) == 3


def packaged(root: Path) -> Any:
    """Return the image that droplets with packages start from, as the roles of a checkout make it."""
    packages = {"trixie": lab.lab_packages("trixie", str(root))}
    plan = images.plan(LAB / "images", [], ["packages-trixie"], packages, [], official=False)
    return next(image for image in plan if image.name == "packages-trixie")


def test_the_image_with_packages_has_what_the_roles_install() -> None:
    installed = set(packaged(ROOT).args["PACKAGES"].split())
    assert {"docker.io", "docker-compose", "nftables", "unattended-upgrades", "needrestart"} <= installed
    assert "auditd" not in installed  # which the role base leaves out in a container


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("base/defaults/main.yml", "base_packages_custom: []", "base_packages_custom: [hello]"),
        ("base/vars/main.yml", "['apt-listchanges', ", "['apt-listchanges', 'hello', "),
        ("base/tasks/install.yml", "+ base_packages_custom", "+ ['hello']"),
        ("docker/vars/main.yml", "Debian 13: [docker.io, ", "Debian 13: [docker.io, hello, "),
    ],
)
def test_the_image_with_packages_follows_the_roles(tmp_path: Path, file: str, before: str, after: str) -> None:
    for role in ("base", "docker"):
        shutil.copytree(ROOT / "roles" / role, tmp_path / "roles" / role, ignore=shutil.ignore_patterns("molecule"))
    changed = tmp_path / "roles" / file
    text = changed.read_text()
    assert before in text
    changed.write_text(text.replace(before, after))
    assert "hello" in packaged(tmp_path).args["PACKAGES"].split()
    assert packaged(tmp_path).key != packaged(ROOT).key


def test_a_droplet_with_packages_starts_from_their_image() -> None:
    hosts = [host("a-1", "10.0.0.1", lab_packages=True), host("a-2", "10.0.0.2")]
    assert [one["image"] for one in lab.lab_droplets(hosts, "lab")] == ["packages-trixie", "droplet-trixie"]


def test_a_release_that_the_roles_do_not_serve_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="bookworm cannot start with packages"):
        lab.lab_packages("bookworm", str(ROOT))


def test_bases_are_removed_after_what_is_built_on_them() -> None:
    base = {"RepoTags": ["flotilla-lab/base-trixie:1", "debian:trixie-slim"]}
    images = [base, {"RepoTags": ["flotilla-lab/nginx-1.30:1"]}, {"RepoTags": ["mine:1"]}, {"RepoTags": None}]
    assert lab.lab_image_names(images) == [
        "flotilla-lab/nginx-1.30:1",
        "flotilla-lab/base-trixie:1",
        "debian:trixie-slim",
    ]


class Miscounting:
    """An engine's API that will not remove the lab's network: it believes that something is in it."""

    def __init__(self, inside: dict[str, Any], explanation: str = "network lab-public has active endpoints") -> None:
        self.inside, self.explanation = inside, explanation

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return []

    def volumes(self, **_: Any) -> dict[str, Any]:
        return {"Volumes": None}

    def networks(self, **_: Any) -> list[dict[str, Any]]:
        return [{"Id": "c8c848c14e3b"}]

    def inspect_network(self, identifier: str) -> dict[str, Any]:
        return {"Id": identifier, "Containers": self.inside}

    def remove_network(self, identifier: str) -> None:
        raise docker.errors.APIError(f"403 for {identifier}", explanation=self.explanation)


def engine_with(api: Miscounting, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(containers.Engine, "_api", api)
    return containers.Engine("lab")


def test_an_empty_network_that_the_engine_miscounts_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_with(Miscounting(inside={}), monkeypatch).remove_all() is False


@pytest.mark.parametrize(
    "api",
    [
        pytest.param(Miscounting(inside={"f00": {"Name": "somebody"}}), id="something-is-in-it"),
        pytest.param(Miscounting(inside={}, explanation="permission denied"), id="another-error"),
    ],
)
def test_another_reason_to_keep_a_network_is_an_error(api: Miscounting, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(docker.errors.APIError, match="403"):
        engine_with(api, monkeypatch).remove_all()


class Pushing:
    """An engine's API that says what it was asked, and that a push of a tag failed."""

    def __init__(self, refused: str = "") -> None:
        self.refused = refused
        self.asked: list[str] = []

    def tag(self, reference: str, repository: str, tag: str) -> None:
        self.asked.append(f"tag {repository}:{tag}")

    def push(self, repository: str, tag: str, **_: Any) -> list[dict[str, str]]:
        self.asked.append(f"push {repository}:{tag}")
        return [{"error": "no space left"} if tag == self.refused else {"status": "Pushed"}]

    def remove_image(self, name: str, noprune: bool) -> None:
        self.asked.append(f"remove {name}")


def pushed(api: Pushing) -> None:
    image = images.Image("nginx-1.30", "flotilla-lab/nginx-1.30:f00", "f00", repository="library/nginx", tags=["1.30"])
    images.push(SimpleNamespace(api=api), "http://127.0.0.1:5000", image)


def test_the_key_is_pushed_last_and_no_name_stays() -> None:
    api = Pushing()
    pushed(api)
    tags = ("1.30", "lab-f00")
    assert api.asked == [
        f"{verb} 127.0.0.1:5000/library/nginx:{tag}" for tag in tags for verb in ("tag", "push", "remove")
    ]


def test_a_push_that_failed_is_an_error_and_no_name_stays() -> None:
    api = Pushing(refused="1.30")
    with pytest.raises(images.PushError, match=r"library/nginx:1\.30 was not pushed: no space left"):
        pushed(api)
    assert api.asked[-1] == "remove 127.0.0.1:5000/library/nginx:1.30"
