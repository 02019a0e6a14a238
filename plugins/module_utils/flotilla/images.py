"""The images of releases on a host: pulled by digest, kept by a local tag, pruned with their release."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from .engine import Engine
from .resolve import former_keep_tag, keep_tag
from .store import Release


def pull_missing(engine: Engine, references: Iterable[str], deadline: float) -> None:
    """Pull what is not there yet, all at once; `deadline` is a `time.monotonic()` value."""
    missing = [reference for reference in sorted(set(references)) if engine.image(reference) is None]
    if missing:
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(
                pool.map(
                    lambda reference: engine.pull(reference, timeout=max(1.0, deadline - time.monotonic())), missing
                )
            )


def keep(engine: Engine, app: str, release: str, images: Mapping[str, str]) -> None:
    """Tag a release's images locally: `docker image prune` takes an image pulled by digest, not a tagged one."""
    for service, reference in images.items():
        repository, _, tag = keep_tag(app, service, release).rpartition(":")
        engine.tag(reference, repository, tag)


def prune_images(engine: Engine, app: str, release: Release) -> None:
    """Remove a release's tags, and its images where nothing else uses them."""
    for service, reference in release.images.items():
        for tag in (keep_tag, former_keep_tag):
            engine.untag(tag(app, service, release.id))
        image = engine.image(reference)
        if image and not any(tag.startswith("flotilla/") for tag in image.get("RepoTags") or []):
            engine.untag(reference)
