"""Which ports of other hosts answer from here. TCP only; bounded in number and time."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

# What people leave open: other services' ports are asked for because their own hosts name them.
COMMON = (
    *(20, 21, 22, 23, 25, 53, 80, 110, 111, 139, 143, 389, 443, 445, 873, 2049, 2375, 2376, 2377, 3000, 3306, 4243),
    *(5000, 5001, 5432, 5601, 5672, 5900, 6379, 6380, 6443, 7946, 8000, 8008, 8080, 8081, 8086, 8404, 8405, 8443, 8888),
    *(9000, 9090, 9091, 9093, 9100, 9113, 9121, 9187, 9200, 9300, 10250, 11211, 15672, 27017),
)
AT_ONCE = 128
SECONDS = 1.5


def answers(address: str, port: int, seconds: float = SECONDS) -> bool:
    """Whether a connection comes about."""
    try:
        with socket.create_connection((address, port), seconds):
            return True
    except OSError:
        return False


def reached(targets: Mapping[str, Iterable[int]], seconds: float = SECONDS) -> dict[str, list[int]]:
    """Address → those of its ports that answer, sorted. targets: address → ports to ask for."""
    asked = sorted({(address, int(port)) for address, ports in targets.items() for port in ports})
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        said = list(pool.map(lambda pair: answers(pair[0], pair[1], seconds), asked))
    return {
        address: [port for (of, port), yes in zip(asked, said, strict=True) if yes and of == address]
        for address in targets
    }
