"""Commits row after row, and notes which were acknowledged and when: `writer.py <first> <seconds>`, on the droplet.

A line a row in /root/acknowledged: its number, when it was sent, when it was acknowledged. It goes on over a restart.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

PSQL = ("docker", "exec", "--interactive", "postgres", "psql", "-XAtqU", "postgres", "-d", "notes")


def main(first: int, seconds: float) -> None:
    end, number = time.time() + seconds, first
    with Path("/root/acknowledged").open("a", buffering=1) as log:
        while time.time() < end:
            with subprocess.Popen(
                PSQL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
            ) as psql:
                assert psql.stdin and psql.stdout
                while time.time() < end:
                    number += 1
                    sent = time.time()
                    try:
                        psql.stdin.write(f"INSERT INTO acknowledged VALUES ({number}) RETURNING id;\n")
                        answer = psql.stdout.readline().strip()
                    except BrokenPipeError:
                        break
                    if answer != str(number):
                        break
                    log.write(f"{number} {sent:.6f} {time.time():.6f}\n")
                    time.sleep(0.003)
                psql.kill()
            time.sleep(0.1)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
