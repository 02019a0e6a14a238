"""compose/postgres/Dockerfile: what it installs on which base."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STORE = "/etc/ssl/certs/ca-certificates.crt"


def first_run(text: str) -> str:
    """The first RUN that installs something, as the shell gets it."""
    (command, *_) = re.findall(r"^RUN (.*?[^\\])\n(?=\S)", text, re.DOTALL | re.MULTILINE)
    return str(command).replace("\\\n", "")


@pytest.mark.parametrize(
    ("there", "installed"),
    [
        ((), {"pgbackrest", "ca-certificates"}),
        (("pgbackrest",), {"ca-certificates"}),
        (("ca-certificates",), {"pgbackrest"}),
        (("pgbackrest", "ca-certificates"), set()),
    ],
)
def test_the_image_gets_what_its_base_has_not(tmp_path: Path, there: tuple[str, ...], installed: set[str]) -> None:
    """The official image has no certificates of authorities; without them no public S3 endpoint is verified."""
    store, log, programs = tmp_path / "store.crt", tmp_path / "log", tmp_path / "bin"
    programs.mkdir()
    for name, text in (("apt-get", f'echo "$@" >> {log}'), ("rm", ":"), *((one, ":") for one in there)):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    if "ca-certificates" in there:
        store.write_text("one")
    script = first_run((ROOT / "compose/postgres/Dockerfile").read_text()).replace(STORE, str(store))
    assert "rm -rf" in script
    subprocess.run(["/bin/sh", "-euc", script], env={"PATH": str(programs)}, check=True)
    words = log.read_text().split() if log.exists() else []
    assert {word for word in words if word in ("pgbackrest", "ca-certificates")} == installed
