"""What a judge that is not ours says of a hardened droplet."""

from __future__ import annotations

import os
import re
from pathlib import Path

from testinfra.host import Host

PROFILE = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "lynis.prf"
WANTED = 90
SKIPPED_AT_MOST = 10


def test_lynis_gives_at_least_90(host: Host) -> None:
    profile = PROFILE.read_text(encoding="utf-8")
    assert len(re.findall(r"^skip-test=", profile, re.MULTILINE)) <= SKIPPED_AT_MOST
    host.check_output(f"cat > /root/flotilla.prf <<'EOF'\n{profile}\nEOF")
    host.run("cd /root && lynis audit system --quick --quiet --profile /root/flotilla.prf")
    report = host.file("/var/log/lynis-report.dat").content_string
    found = re.search(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    assert found, report
    left = "\n".join(line for line in report.splitlines() if line.startswith(("suggestion", "warning")))
    assert int(found[1]) >= WANTED, left
