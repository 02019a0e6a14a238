"""Whether the hosts' trails are as others saw them: each entry of a run carries the heads of the other hosts' chains.

Somebody who rewrites the whole chain of one host cannot rewrite what other hosts and the control nodes know of it. Who
a host is, the control node knows by the key that it verified in the SSH session, and nobody by what the host says.
Pure functions, for the controller, but for `Kept`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .journal import alone, write_atomic

ANOTHER_KEY = "its SSH host key is not the one that this control node knew it by"


@dataclass(frozen=True)
class Known:
    """What this control node knows of a host.

    heads: each number and hash.  key: the fingerprint of its SSH host key (`SHA256:…`); empty where nobody looked.
    since: when a person said that its log is another one now (UTC, as entries have it); what others saw of it before
    is let go.
    """

    heads: tuple[tuple[int, str], ...] = ()
    key: str = ""
    since: str = ""


@dataclass(frozen=True)
class Kept:
    """What this control node knows of the hosts of an environment, in one file."""

    file: Path

    @classmethod
    def of(cls, place: Path) -> Kept:
        """That of an environment; see `account.directory`."""
        return cls(place / "trail.json")

    def read(self) -> dict[str, Known]:
        """What was kept; nothing where nothing can be read."""
        try:
            return {str(host): _known(told) for host, told in json.loads(self.file.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError, LookupError):
            return {}

    def add(self, heads: Mapping[str, Sequence[Any]]) -> None:
        """Keep these beside those that are kept: nobody has compared them with the chains."""
        with self._changed(bool(heads)) as found:
            for host, (number, link, *_) in heads.items():
                known, head = found.get(host, Known()), (int(number), str(link))
                others = tuple(one for one in known.heads if one != head)
                found[host] = Known((*others, head), known.key, known.since)

    def settle(self, seen: Mapping[str, Known], judged: Mapping[str, Known]) -> None:
        """Keep these in the place of what was judged: the chains were seen to contain it, or a person said so.

        seen: without a key or a time where that stays as it was.  judged: what `read` said; what a deploy added since
        stays.
        """
        with self._changed(bool(seen)) as found:
            for host, now in seen.items():
                known, done = found.get(host, Known()), {*judged.get(host, Known()).heads, *now.heads}
                added = tuple(one for one in known.heads if one not in done)
                found[host] = Known(now.heads + added, now.key or known.key, now.since or known.since)

    @contextmanager
    def _changed(self, needed: bool) -> Iterator[dict[str, Known]]:
        """What is kept, to be changed in place. Several runs from one checkout may end at once."""
        if not needed:
            yield {}
            return
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(self.file.parent):
            found = self.read()
            yield found
            text = json.dumps({host: asdict(known) for host, known in found.items()}, indent=1, sort_keys=True)
            write_atomic(self.file, text + "\n", mode=0o600)


def contradictions(trails: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Known]) -> Iterator[tuple[str, str]]:
    """Host and what is wrong with its trail, by what others know of it.

    trails: host → `links` (the hashes of its entries) and `seen` (what its entries say of others), worked out from its
    raw file here, and `key`, as `Known` has it.  kept: of this control node.
    """
    told: set[str] = set()
    for host, trail in trails.items():
        if (known := kept.get(host, Known()).key) and trail.get("key") and known != trail["key"]:
            told.add(host)
            yield host, f"{ANOTHER_KEY}: {trail['key']} and not {known}"
    witnesses = [
        (one["host"], int(one["number"]), str(one["hash"]), f"{witness} saw at {one['time']}")
        for witness, trail in sorted(trails.items())
        for one in trail.get("seen", ())
        if one["time"] >= kept.get(one["host"], Known()).since
    ]
    witnesses += [(host, *head, "this control node saw") for host, known in kept.items() for head in known.heads]
    for host, number, link, who in witnesses:
        links = trails.get(host, {}).get("links")
        if links is None or host in told:
            continue
        if number > len(links):
            told.add(host)
            yield host, f"its log has {len(links)} entries, and {who} {number}: entries were taken away"
        elif number > 0 and links[number - 1] != link:
            told.add(host)
            yield host, f"its log was rewritten: entry {number} is not the one that {who}"


def _known(told: Any) -> Known:
    """Earlier versions kept lists: one head or several, with what the host said of its key."""
    if isinstance(told, list):
        told = {"heads": told if isinstance(told[0], list) else [told]}
    heads = tuple((int(one[0]), str(one[1])) for one in told["heads"])
    return Known(heads, str(told.get("key", "")), str(told.get("since", "")))
