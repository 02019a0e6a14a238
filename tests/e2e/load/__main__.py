"""The load generator as a program.

python -m tests.e2e.load --url https://127.0.0.1:8443 --server-name staging.example.com --ca-file ca.pem \\
    --seconds 30 --stream get:keepalive:200 --stream get:new:50 --stream post:new:20 --stream websocket:new:x4
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from .plan import MAX_REQUESTS, Kind, Mode, Plan, PlanError, Stream, Target
from .result import Result
from .runner import run


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e.load",
        description="Send a bounded load to a lab address. Exit code 1: a request failed.",
    )
    parser.add_argument("--plan", type=Path, help="a plan as JSON; replaces the options below")
    parser.add_argument("--url", help="where to connect: loopback or a lab network")
    parser.add_argument("--server-name", default="", help="name for TLS and the Host header")
    parser.add_argument("--ca-file", default="", help="the CA's certificate, needed for https")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--max-requests", type=int, default=MAX_REQUESTS)
    parser.add_argument("--timeout", type=float, default=30.0, help="of one request, in seconds")
    parser.add_argument(
        "--stream",
        action="append",
        default=[],
        metavar="KIND:MODE:PACE[:PATH]",
        help="may be repeated; KIND get, post, slow or websocket; MODE keepalive or new;"
        " PACE requests a second (50) or as many at a time (x8)",
    )
    parser.add_argument("--rate", type=float, default=50.0, help="without --stream: requests a second")
    parser.add_argument("--mode", default="keepalive", choices=[str(mode) for mode in Mode])
    parser.add_argument("--kind", default="get", choices=[str(kind) for kind in Kind])
    parser.add_argument("--path", default="")
    parser.add_argument("--json", type=Path, help="write the whole result to this file")
    return parser.parse_args()


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the options describe. Raises PlanError."""
    if options.plan:
        return Plan.from_json(options.plan.read_text(encoding="utf-8"))
    if not options.url:
        raise PlanError("url: none given")
    streams = tuple(Stream.parse(text) for text in options.stream)
    if not streams:
        streams = (Stream(Kind(options.kind), Mode(options.mode), rate=options.rate, path=options.path),)
    return Plan(
        target=Target(options.url, options.server_name, options.ca_file),
        streams=streams,
        seconds=options.seconds,
        max_requests=options.max_requests,
        timeout=options.timeout,
    )


async def supervised(plan: Plan) -> Result:
    """Run the plan; TERM and INT end it early, with a result."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await run(plan, stop, on_start=lambda: print("running", flush=True))


def main() -> int:
    options = arguments()
    try:
        result = asyncio.run(supervised(plan_of(options)))
    except PlanError as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(result.to_json(), encoding="utf-8")
    print(result.summary())
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
