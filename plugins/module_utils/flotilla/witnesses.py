"""Whether the hosts' trails are as others saw them: each entry of a run carries the heads of the other hosts' chains.

Somebody who rewrites the whole chain of one host cannot rewrite what other hosts and the control nodes know of it.
Heads name the host by its SSH host key: a host that was replaced has another one, which somebody accepted. Pure
functions, for the controller, but for `Kept`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .journal import alone, write_atomic


@dataclass(frozen=True)
class Kept:
    """The heads that this control node saw last: host → number, hash, identity."""

    file: Path

    @classmethod
    def of(cls, place: Path) -> Kept:
        """Those of an environment; see `account.directory`."""
        return cls(place / "trail.json")

    def read(self) -> dict[str, list[Any]]:
        """What was kept; nothing where nothing can be read."""
        try:
            found = json.loads(self.file.read_text())
            return {str(host): [int(head[0]), str(head[1]), str(head[2])] for host, head in found.items()}
        except (OSError, ValueError, TypeError, AttributeError, LookupError):
            return {}

    def add(self, heads: Mapping[str, Sequence[Any]]) -> None:
        """Keep newer heads. Several runs from one checkout may end at once."""
        if not heads:
            return
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(self.file.parent):
            known = self.read()
            newer = {host: list(head) for host, head in heads.items() if not _older(head, known.get(host))}
            write_atomic(self.file, json.dumps({**known, **newer}, indent=1, sort_keys=True) + "\n", mode=0o600)


def contradictions(
    trails: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[str, str]]:
    """Host and what is wrong with its trail, by what others know of it.

    trails: host → `links` (the hashes of its entries), `seen` (what its entries say of others) and `trail` (its head),
    of the module `flotilla_trail`.  kept: host → number, hash and identity, of this control node.
    """
    witnesses = [
        (one["host"], (int(one["number"]), str(one["hash"]), str(one["identity"])), f"{witness} saw at {one['time']}")
        for witness, trail in sorted(trails.items())
        for one in trail.get("seen", ())
    ]
    witnesses += [
        (host, (int(head[0]), str(head[1]), str(head[2])), "this control node saw") for host, head in kept.items()
    ]
    told: set[str] = set()
    for host, (number, link, identity), who in witnesses:
        links = trails.get(host, {}).get("links")
        if links is None or host in told or identity != trails[host]["trail"][2]:
            continue
        if number > len(links):
            told.add(host)
            yield host, f"its log has {len(links)} entries, and {who} {number}: entries were taken away"
        elif number > 0 and links[number - 1] != link:
            told.add(host)
            yield host, f"its log was rewritten: entry {number} is not the one that {who}"


def _older(head: Sequence[Any], known: Sequence[Any] | None) -> bool:
    """Whether a head is of the same host as the known one, and was there before it."""
    return known is not None and head[2] == known[2] and head[0] < known[0]
