"""Image references, as the distribution specification and Docker write them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

# https://github.com/distribution/reference: name[:tag][@digest], the first part a registry when it looks like a host.
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
_REFERENCE = re.compile(rf"(?P<name>(?:{_HOST}/)?{_PATH}(?:/{_PATH})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?")

# Images of servers that own data. Two of them on one data directory destroy it, and an anonymous
# volume would be lost with its colour, so they are kept out of the colours.
DATA_IMAGES = frozenset(
    {
        "cassandra",
        "clickhouse",
        "clickhouse-server",
        "cockroach",
        "couchdb",
        "dragonfly",
        "elasticsearch",
        "etcd",
        "influxdb",
        "kafka",
        "keydb",
        "mariadb",
        "meilisearch",
        "minio",
        "mongo",
        "mongodb-community-server",
        "mysql",
        "neo",
        "opensearch",
        "percona",
        "percona-server",
        "pgvector",
        "postgis",
        "postgres",
        "postgresql",
        "qdrant",
        "rabbitmq",
        "redis",
        "redis-stack",
        "redis-stack-server",
        "rethinkdb",
        "scylla",
        "timescaledb",
        "timescaledb-ha",
        "typesense",
        "valkey",
        "zookeeper",
    }
)


@dataclass(frozen=True)
class Reference:
    """An image reference taken apart; `tag` and `digest` are empty when it has none."""

    name: str
    tag: str
    digest: str

    @property
    def moving(self) -> bool:
        """Whether it means whatever was pushed last: no tag or `latest`, and no digest."""
        return not self.digest and self.tag in ("", "latest")

    @property
    def owns_data(self) -> bool:
        """Whether it is a well-known server that owns data."""
        return self.name.rpartition("/")[2] in DATA_IMAGES


def parse(text: str) -> Reference | None:
    """Take a reference apart, or None when it is none."""
    match = _REFERENCE.fullmatch(text)
    if not match:
        return None
    return Reference(match["name"], match["tag"] or "", match["digest"] or "")


def suggest(service: str) -> str:
    """The line that a person can write for an image that is missing or not named well."""
    return f"image: registry.example.com/team/{_path(service)}:${{VERSION}}"


def keep_tag(app: str, service: str, release: str) -> str:
    """The local tag that keeps an image of a release: `flotilla/<app>/<service>:<release>`.

    `docker image prune` takes an image that was pulled by digest and has no tag. A name or release
    that a reference cannot hold is changed and gets a piece of its hash, so that no two meet; nor do
    those of two apps, whose releases of one run may have one id.
    """
    return f"flotilla/{_path(app)}/{_path(service)}:{_tag(release)}"


def former_keep_tag(app: str, service: str, release: str) -> str:
    """What `keep_tag` was once, to be removed: `a` with `b-c` and `a-b` with `c` shared one."""
    return f"flotilla/{app}-{_path(service)}:{_tag(release)}"


def _tag(release: str) -> str:
    """A release's id as a tag."""
    tag = re.sub(r"[^A-Za-z0-9_.-]", "_", release)[:128]
    if tag != release or not re.fullmatch(_TAG, tag):
        return f"r{tag[:110]}-{_hash(release)}"
    return tag


def _path(service: str) -> str:
    """A service's or an app's name as a part of an image name."""
    if re.fullmatch(_PATH, service):
        return service
    cleaned = re.sub(r"[^a-z0-9]+", "-", service.lower()).strip("-")
    return f"{cleaned}-{_hash(service)}" if cleaned else _hash(service)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
