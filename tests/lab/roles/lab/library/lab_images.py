#!/usr/bin/python
"""Say which of the lab's images have to be built or pulled, and push what a registry lacks."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: lab_images
short_description: Say which of the lab's images have to be built or pulled, and push what a registry lacks
description:
  - Gives each image a key, the hash of all that goes into it, and looks whether engine and registry have that key.
  - Changes nothing but the registries that are named. They are filled in one call, because a task costs more than most
    of its steps.
options:
  directory:
    description: The directory with one build context an image.
    type: path
    required: true
  hub:
    description: The hub names wanted, such as C(nginx:1.30). None asks for the lab's own images only.
    type: list
    elements: str
    default: []
  droplets:
    description:
      - The images that droplets start from, C(droplet-<suite>), or C(packages-<suite>) for one with O(packages) in it.
    type: list
    elements: str
    default: [droplet-trixie]
  packages:
    description: What is installed in C(packages-<suite>), by suite.
    type: dict
    default: {}
  official:
    description:
      - Take the official images (V(always)), the stand-ins (V(never)), or the official ones where they can be pulled
        (V(auto)).
    type: str
    choices: [auto, always, never]
    default: auto
  builds:
    description: Images of apps to build, each with name, context, tags, and optionally args.
    type: list
    elements: dict
    default: []
  hub_registry:
    description: Base URL of the registry behind the hub mirror, which gets the images that it lacks.
    type: str
  team_registry:
    description: Base URL of the registry behind registry.example.com, which gets those of O(builds) that it lacks.
    type: str
author:
  - Flotilla
"""

EXAMPLES = r"""
- name: Find out which images are missing
  lab_images:
    directory: tests/lab/images
    hub: [nginx:1.30, redis:7]
    builds:
      - {name: acme/notes, context: compose/app, tags: [1.0.0], args: {VERSION: 1.0.0}}
"""

RETURN = r"""
images:
  description:
    - The images in the order to make them, each with its reference, an action (build, pull or none), and what it needs.
  type: list
  elements: dict
  returned: always
official:
  description: Whether the official images are used.
  type: bool
  returned: always
"""

PREFIX = "flotilla-lab"
MANIFEST_TYPES = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.index.v1+json",
    )
)


class PushError(Exception):
    """A registry did not take an image."""


@dataclass(frozen=True)
class Recipe:
    """How the stand-in of one hub name is made."""

    context: str
    suite: str
    args: tuple[tuple[str, str], ...] = ()


STAND_INS = {
    "debian:trixie-slim": Recipe("base", "trixie"),
    "debian:bookworm-slim": Recipe("base", "bookworm"),
    "haproxy:3.0": Recipe("haproxy", "trixie"),
    "nginx:1.30": Recipe("nginx", "trixie"),
    "owasp/modsecurity-crs:4.25-nginx-lts": Recipe("modsecurity", "trixie"),
    "postgres:15": Recipe("postgres", "trixie", (("VERSION", "15"),)),
    "postgres:17": Recipe("postgres", "trixie", (("VERSION", "17"),)),
    "redis:7": Recipe("redis", "bookworm"),
    "redis:8": Recipe("redis", "trixie"),
}


@dataclass
class Image:
    """One image: what it is called, what it is made of, and what is left to do for it.

    ``registry`` is ``hub`` or ``team`` for an image that a registry serves as ``repository`` under ``tags``.
    ``suite`` is set for a base that mmdebstrap makes.
    """

    name: str
    reference: str
    key: str
    context: str = ""
    parent: str = ""
    suite: str = ""
    args: dict[str, str] = field(default_factory=dict)
    registry: str = ""
    repository: str = ""
    tags: list[str] = field(default_factory=list)
    action: str = "build"

    def serve_as_hub(self, name: str) -> None:
        """Let the mirror serve this image under a hub name."""
        repository, _, tag = name.partition(":")
        path = repository if "/" in repository else f"library/{repository}"
        self.registry, self.repository, self.tags = "hub", path, [tag]


def digest_of(context: Path, *inputs: str) -> str:
    """Return the first 12 hex digits of the hash of a build context's files, their modes, and further inputs."""
    total = hashlib.sha256(json.dumps(inputs).encode())
    for path in sorted(entry for entry in context.rglob("*") if entry.is_file()):
        if "__pycache__" in path.parts:
            continue
        executable = bool(path.stat().st_mode & 0o100)
        total.update(f"\0{path.relative_to(context)}\0{executable}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]


def plan(
    directory: Path,
    hub: list[str],
    droplets: list[str],
    packages: dict[str, list[str]],
    builds: list[dict[str, Any]],
    official: bool,
) -> list[Image]:
    """Return the images to have, parents before children.

    Raises:
        KeyError: a hub name has no stand-in and the official images are not used.
    """
    bases: dict[str, Image] = {}
    images: list[Image] = []

    def pulled(name: str) -> Image:
        return Image(name, name, "official", action="pull")

    def base(suite: str) -> Image:
        if suite not in bases:
            key = digest_of(directory / "base", suite)
            own = Image(f"base-{suite}", f"{PREFIX}/base-{suite}:{key}", key, str(directory / "base"), suite=suite)
            bases[suite] = pulled(f"debian:{suite}-slim") if official else own
        return bases[suite]

    def built(name: str, context: Path, parent: Image, args: dict[str, str]) -> Image:
        key = digest_of(context, parent.key, json.dumps(args, sort_keys=True))
        image = Image(name, f"{PREFIX}/{name}:{key}", key, str(context), parent=parent.reference, args=args)
        images.append(image)
        return image

    built("registry", directory / "registry", base("trixie"), {})
    for suite in sorted({name.partition("-")[2] for name in droplets}):
        bare = built(f"droplet-{suite}", directory / "droplet", base(suite), {})
        if f"packages-{suite}" in droplets:
            built(f"packages-{suite}", directory / "packages", bare, {"PACKAGES": " ".join(packages[suite])})
    for name in dict.fromkeys(hub):
        recipe = STAND_INS.get(name) if official else STAND_INS[name]
        if recipe and recipe.context == "base":
            image = base(recipe.suite)
        elif recipe and not official:
            image = built(name.replace(":", "-"), directory / recipe.context, base(recipe.suite), dict(recipe.args))
        else:
            image = pulled(name)
            images.append(image)
        image.serve_as_hub(name)
    for build in builds:
        image = built(build["name"], Path(build["context"]), base("trixie"), build.get("args") or {})
        image.registry, image.repository, image.tags = "team", build["name"], [str(tag) for tag in build["tags"]]
    return [*bases.values(), *images]


def digest_in_registry(registry: str, repository: str, tag: str) -> str | None:
    """Return the digest of a tag in the registry, or None if it is not there."""
    request = urllib.request.Request(
        f"{registry}/v2/{repository}/manifests/{tag}", method="HEAD", headers={"Accept": MANIFEST_TYPES}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            digest = answer.headers.get("Docker-Content-Digest")
            return str(digest) if digest else None
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def is_pushed(registry: str, image: Image) -> bool:
    """Whether the registry's tags are this very image: a push leaves the key as one more tag."""
    pushed = digest_in_registry(registry, image.repository, f"lab-{image.key}")
    return pushed is not None and all(
        digest_in_registry(registry, image.repository, tag) == pushed for tag in image.tags
    )


def push(engine: Any, registry: str, image: Image) -> None:
    """Push an image under its tags. The key goes last: without it the push counts as not done.

    Raises:
        PushError: the registry does not take it.
    """
    repository = f"{registry.partition('://')[2]}/{image.repository}"
    for tag in (*image.tags, f"lab-{image.key}"):
        engine.api.tag(image.reference, repository, tag)
        try:
            for said in engine.api.push(repository, tag, stream=True, decode=True):
                if "error" in said:
                    raise PushError(f"{image.repository}:{tag} was not pushed: {said['error']}")
        finally:
            engine.api.remove_image(f"{repository}:{tag}", noprune=True)


def official_can_be_pulled(engine: Any) -> bool:
    """Whether the engine sees an official image's manifest where it pulls from."""
    import docker

    try:
        engine.api.inspect_distribution("nginx:1.30")
    except (docker.errors.APIError, OSError):
        return False
    return True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "hub": {"type": "list", "elements": "str", "default": []},
            "droplets": {"type": "list", "elements": "str", "default": ["droplet-trixie"]},
            "packages": {"type": "dict", "default": {}},
            "official": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
            "builds": {"type": "list", "elements": "dict", "default": []},
            "hub_registry": {"type": "str"},
            "team_registry": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        import docker
    except ImportError:
        module.fail_json(msg="The Python package docker is missing: run tests/lab/bootstrap, and use .venv.")
    wanted: dict[str, Any] = module.params
    try:
        engine = docker.from_env(timeout=20)
        official = wanted["official"] == "always" or (wanted["official"] == "auto" and official_can_be_pulled(engine))
        kinds = {kind: wanted[kind] for kind in ("hub", "droplets", "packages", "builds")}
        images = plan(Path(wanted["directory"]), official=official, **kinds)
        present = {tag for image in engine.images.list() for tag in image.tags}
        for image in images:
            if image.reference in present:
                image.action = "none"
        served = [(wanted.get(f"{image.registry}_registry"), image) for image in images]
        missing = [(registry, image) for registry, image in served if registry and not is_pushed(registry, image)]
        if not module.check_mode:
            for registry, image in missing:
                push(engine, registry, image)
    except KeyError as error:
        module.fail_json(msg=f"No stand-in for {error}. There are: {', '.join(STAND_INS)}.")
    except PushError as error:
        module.fail_json(msg=str(error))
    except (docker.errors.DockerException, OSError) as error:
        module.fail_json(msg=f"The lab cannot ask the engine or its registry: {error}. Run tests/lab/bootstrap.")
    module.exit_json(changed=bool(missing), official=official, images=[asdict(image) for image in images])


if __name__ == "__main__":
    main()
