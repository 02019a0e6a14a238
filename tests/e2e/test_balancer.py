"""Two app hosts behind a balancer: what users see while releases, reloads, drains and deaths go on behind it.

FLOTILLA_DEPLOYS and FLOTILLA_ROLLBACKS say how many; `make soak` ships 10 releases and goes back 5 times.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.fleet import APP, FLEET_LAB, PRODUCTION, Environment, app_entry
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Result, Stream, Target
from tests.e2e.strangers import Found, Stranger, dropped, scan, stranger
from tests.e2e.waiting import GENEROUS_SECONDS, eventually

DEPLOYS = int(os.environ.get("FLOTILLA_DEPLOYS", "2"))
ROLLBACKS = int(os.environ.get("FLOTILLA_ROLLBACKS", "1"))
BALANCER = "production-lb-1"
HOSTS = ("production-app-1", "production-app-2")
WITH_CERTIFICATES = (*HOSTS, "production-db-1", "production-cache-1")
CURRENT = "readlink /opt/flotilla/*/certs/current /opt/flotilla/nginx/certs/issued/current 2> /dev/null || true"
PAGE = "Under maintenance"
# A deploy holds the old colour so long for what is in flight: websockets take all of it, slow requests half.
DRAIN_SECONDS = 8

GETS_AND_POSTS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=20),
    Stream(Kind.GET, Mode.NEW, rate=10),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=5),
    Stream(Kind.POST, Mode.NEW, rate=5),
)
EVERYTHING = (
    *GETS_AND_POSTS,
    Stream(Kind.SLOW, Mode.KEEPALIVE, concurrency=2, path="/api/slow?seconds=3", connections=2),
    Stream(Kind.SLOW, Mode.NEW, concurrency=2, path="/api/slow?seconds=3"),
    Stream(Kind.WEBSOCKET, concurrency=50),
)


def entry(environment: Mapping[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """The production inventory's app; its traffic is watched for a short time only."""
    return app_entry(
        PRODUCTION,
        environment={"UPDATE_MONITOR": "2s", **(environment or {})},
        deadlines={"drain_seconds": DRAIN_SECONDS},
        **changes,
    )


LAB = FLEET_LAB


@pytest.fixture(scope="module")
def front(served: Environment) -> Environment:
    """The environment as users see it: through the balancer."""
    front = served.on(BALANCER)
    front.live_within(GENEROUS_SECONDS)
    return front


@contextmanager
def load_on(front: Environment, *streams: Stream, timeout: float = 30) -> Iterator[BackgroundLoad]:
    plan = Plan(Target(front.url, front.domain, str(front.ca)), streams, seconds=3600, timeout=timeout)
    with BackgroundLoad(plan) as load:
        time.sleep(2)
        yield load


def awake(host: Environment) -> None:
    """Wait until a droplet that was switched on has its engine."""
    up = "docker info > /dev/null 2>&1 && echo up"
    eventually(lambda: host.ssh(up, check=False).strip() == "up", why=f"{host.host} comes up")


def hosts_that_answer(front: Environment, requests: int = 20) -> set[str]:
    return {front.live().host for _ in range(requests)}


def all_hosts_answer(front: Environment) -> None:
    """Each host gets its share, as soon as the balancer finds it well."""
    eventually(lambda: hosts_that_answer(front) == set(HOSTS), why="all hosts answer")


def stored_once(front: Environment, result: Result) -> None:
    """Each POST that was answered well is in the database, and no id is there twice."""
    stored = front.on("production-db-1").sql("SELECT id FROM notes")
    assert len(stored) == len(set(stored))
    assert len(result.acknowledged) == len(set(result.acknowledged)) > 0
    assert set(result.acknowledged) - set(stored) == set()


# -- what it is ---------------------------------------------------------------------------------------------


def test_both_hosts_answer_over_tls(front: Environment) -> None:
    all_hosts_answer(front)
    plain = front.fetch("/api/version?x=1", tls=False)
    assert (plain.status, plain.headers["location"]) == (308, f"https://{front.domain}/api/version?x=1")


def test_a_request_has_one_id_in_all_logs(front: Environment) -> None:
    answer = front.fetch("/api/version")
    request_id = answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", request_id)
    host = str(answer.json()["host"])
    for place, log in (
        (front.on(host), "tail -n 200 /opt/flotilla/nginx/logs/access.log"),
        (front, "docker logs --tail 200 haproxy-haproxy-1 2>&1"),
    ):
        eventually(partial(prints, place, log, request_id), why=f"{place.host} has logged {request_id}")


def prints(host: Environment, command: str, text: str) -> bool:
    """Whether a command on a host prints a text."""
    return text in host.ssh(command)


def test_metrics_are_on_the_private_network_only(front: Environment) -> None:
    private = front.ssh("ss -Hltn 'sport = :8405'").split()[3].rpartition(":")[0]
    assert private not in ("0.0.0.0", "*", "[::]", front.address)
    ask = f"import urllib.request; print(urllib.request.urlopen('http://{private}:8405/metrics').read().decode())"
    assert "haproxy_server_status" in front.on(HOSTS[0]).python(ask)
    assert scan(front.on(HOSTS[1]).python, private, ports=(8405, 8405)) == [Found((), 0)]


def test_edges_show_who_they_are_to_the_balancer(front: Environment) -> None:
    """Each has a certificate of the environment's authority; no host signs for itself."""
    (authority,) = front.authorities()
    verify = "openssl verify -CAfile /opt/flotilla/nginx/certs/issued/current/ca.crt -verify_hostname www.example.com"
    for host in map(front.on, HOSTS):
        connect = "openssl s_client -connect 127.0.0.1:443 -servername www.example.com < /dev/null 2> /dev/null"
        shown = host.ssh(f"{connect} | openssl x509")
        assert "OK" in host.ssh(verify, given=shown)
        assert host.ssh("ls /opt/flotilla/nginx/ca", check=False) == ""
        assert host.ssh("cat /opt/flotilla/nginx/certs/issued/current/ca.crt") == authority


# In a container of the app, with what another environment would come with.
KNOCKS = """
import asyncio, ssl, sys
import asyncpg, redis.asyncio

async def main():
    database, cache = sys.argv[1:]
    tls = ssl.create_default_context(cafile="/run/secrets/authorities")
    user = open("/run/secrets/database_user").read().strip()
    trusted = {"ssl": True, "ssl_ca_certs": "/run/secrets/authorities"}
    connect = asyncpg.connect(host=database, user=user, database="notes", password="of staging", ssl=tls)
    client = redis.asyncio.Redis(host=cache, password="of staging", **trusted)
    for stack, knock in (("postgres", connect), ("redis", client.ping())):
        try:
            await knock
            print(stack, "let in")
        except Exception as error:
            print(stack, type(error).__name__)

asyncio.run(main())
"""


def test_what_another_environment_has_opens_nothing(front: Environment, tmp_path: Path) -> None:
    """Its SSH key, the password of its vault, those of its Postgres and Redis. (The next test has its authority.)"""
    key, password = tmp_path / "staging", tmp_path / "password"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    unknown = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    ssh = ["ssh", "-F", "none", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", *unknown]
    for host in EVERY_HOST:
        address = front.on(host).address
        said = subprocess.run(
            [*ssh, f"deploy@{address}", "true"], capture_output=True, text=True, check=False, timeout=60
        )
        assert said.returncode == 255
        assert "Permission denied (publickey)" in said.stderr
    password.write_text("of staging\n")
    view = [str(Path(sys.executable).with_name("ansible-vault")), "view", "--vault-id", f"production@{password}"]
    opened = subprocess.run([*view, str(front.lab_overlay / "vault.yml")], capture_output=True, text=True, check=False)
    assert opened.returncode != 0
    assert "Decryption failed" in opened.stdout + opened.stderr
    data = [front.on(host).private_address for host in ("production-db-1", "production-cache-1")]
    app = "$(docker ps --format '{{.Names}}' | grep '^notes-.*-api-1$')"
    knocked = front.on(HOSTS[0]).ssh(f"docker exec -i {app} python3 - {' '.join(data)}", given=KNOCKS, check=False)
    assert knocked.split() == ["postgres", "InvalidPasswordError", "redis", "AuthenticationError"]


def test_a_host_with_somebody_elses_certificate_gets_nothing(front: Environment) -> None:
    """The balancer believes in no name that the environment's authority has not signed."""
    odd, certs = front.on(HOSTS[1]), "/opt/flotilla/nginx/certs/issued"
    version, restart = odd.ssh(f"readlink {certs}/current").strip(), "docker restart nginx-nginx-1 > /dev/null"
    odd.ssh(
        f"cp -a {certs}/{version} {certs}/foreign && cd {certs}/foreign"
        " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 9 -subj /CN=edge"
        " -addext subjectAltName=DNS:www.example.com"
        # The container also forgets the sessions that a client may resume without another look at the certificate.
        f" -keyout tls.key -out tls.crt 2> /dev/null && ln -sfn foreign ../current && {restart}"
    )
    shown = "openssl s_client -connect 127.0.0.1:443 -servername www.example.com < /dev/null 2> /dev/null"
    subject = f"{shown} | openssl x509 -noout -subject 2> /dev/null | tr -d ' '"
    try:
        eventually(partial(prints, odd, subject, "CN=edge"), why="the certificate is shown")
        assert hosts_that_answer(front) == {HOSTS[0]}
    finally:
        odd.ssh(f"cd {certs} && ln -sfn {version} current && rm -r foreign && {restart}")
    front.module("flotilla_balancer", state="ready", hosts=[HOSTS[1]], seconds=GENEROUS_SECONDS)
    all_hosts_answer(front)


def test_a_second_provisioning_changes_nothing(front: Environment) -> None:
    again = front.playbook("playbooks/provision.yml").succeeded()
    assert {host: recap.changed for host, recap in again.recap.items() if recap.changed} == {}


# -- who may reach what ---------------------------------------------------------------------------------------

EVERY_HOST = (BALANCER, *HOSTS, "production-db-1", "production-cache-1")
NETWORKS = ("public", "private")
# What is asked of by UDP on such hosts: names, time, SNMP, the engine's overlay networks, WireGuard.
UDP_PORTS = (53, 123, 161, 4789, 7946, 51820)
# From loopback alone, on the host that has it.
LOOPBACK_PORT = 8099


@pytest.fixture(scope="module")
def strangers(front: Environment) -> Iterator[dict[str, Stranger]]:
    """Somebody on each of the lab's networks whom no inventory knows."""
    with stranger(front, "public") as public, stranger(front, "private") as private:
        yield {"public": public, "private": private}


def address_on(front: Environment, network: str, host: str) -> str:
    there = front.on(host)
    return there.address if network == "public" else there.private_address


def found_by_strangers(front: Environment, strangers: Mapping[str, Stranger], *hosts: str) -> dict[str, list[Found]]:
    """Host → what is found of all its ports, from the public and from the private network."""
    with ThreadPoolExecutor() as pool:
        tasks = [
            pool.submit(scan, strangers[network].python, *(address_on(front, network, host) for host in hosts))
            for network in NETWORKS
        ]
        return dict(zip(hosts, map(list, zip(*(task.result() for task in tasks), strict=True)), strict=True))


def declared_for_all(host: str) -> Found:
    """Nothing is refused: what is not declared is dropped, whether anybody listens or not."""
    return Found((80, 443) if host == BALANCER else (), 0)


def test_a_stranger_finds_the_declared_ports_and_no_others(
    front: Environment, strangers: Mapping[str, Stranger]
) -> None:
    before = {host: dropped(front.on(host)) for host in EVERY_HOST}
    found = found_by_strangers(front, strangers, *EVERY_HOST)
    assert found == {host: [declared_for_all(host)] * len(NETWORKS) for host in EVERY_HOST}
    # They did ask: almost all packets came as far as the host.
    for host in EVERY_HOST:
        assert dropped(front.on(host)) - before[host] > 2 * 65_000, host


def test_hosts_find_what_is_declared_for_them(front: Environment) -> None:
    expected = {
        (HOSTS[0], "production-db-1"): (5432,),
        (HOSTS[0], "production-cache-1"): (6379,),
        (HOSTS[0], BALANCER): (80, 443, 8405),
        (BALANCER, HOSTS[1]): (443,),
        (BALANCER, "production-db-1"): (),
    }
    for (source, target), ports in expected.items():
        (found,) = scan(front.on(source).python, front.on(target).private_address, ports=(1, 16_384))
        assert found == Found(ports, 0), (source, target)


def test_no_datagram_is_answered(front: Environment, strangers: Mapping[str, Stranger]) -> None:
    for host in EVERY_HOST:
        for network, one in strangers.items():
            said = one.udp(address_on(front, network, host), UDP_PORTS)
            assert said == dict.fromkeys(UDP_PORTS, "dropped"), (host, network)


def test_a_neighbour_s_routes_lead_to_no_container_and_no_loopback_port(
    front: Environment, strangers: Mapping[str, Stranger]
) -> None:
    host = front.on(HOSTS[0])
    publish = f"--publish=127.0.0.1:{LOOPBACK_PORT}:80"
    host.ssh(f"docker run --detach --name=loopback {publish} nginx:1.30")
    inspect = "docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}'"
    services = "$(docker ps --quiet --filter label=com.docker.compose.service=api)"
    containers = host.ssh(f"{inspect} {services} loopback").split()
    asked = ["127.0.0.1", *containers]
    try:
        with strangers["public"].with_routes(host.address, *asked):
            behind = partial(scan, strangers["public"].python, *asked, ports=(1, 9000))
            assert behind() == [Found((), 0)] * len(asked)
            # The routes are good: with the firewall gone they lead to what is published on loopback, by both addresses.
            host.ssh("systemctl stop flotilla-firewall")
            without = behind()
            host.ssh("systemctl start flotilla-firewall")
            assert (LOOPBACK_PORT in without[0].open, 80 in without[-1].open) == (True, True), without
            assert behind() == [Found((), 0)] * len(asked)
    finally:
        host.ssh("systemctl start flotilla-firewall; docker rm --force --volumes loopback")


def restart_engine(host: Environment) -> None:
    host.ssh("systemctl reset-failed docker; systemctl restart docker")


def reload_firewall(host: Environment) -> None:
    host.ssh("systemctl reload flotilla-firewall")


def reboot(host: Environment) -> None:
    """After the edge, which app hosts have, was told to open its log anew."""
    if host.host in HOSTS:
        host.ssh("systemctl start flotilla-nginx-logs")
    host.reboot()
    awake(host)


# `make thorough` has all hosts, and what else could open something.
@pytest.mark.parametrize(
    "name", [pytest.param(host, marks=() if host == HOSTS[1] else pytest.mark.thorough) for host in EVERY_HOST]
)
@pytest.mark.parametrize(
    "happens", [*(pytest.param(one, marks=pytest.mark.thorough) for one in (restart_engine, reload_firewall)), reboot]
)
def test_a_stranger_finds_nothing_more_afterwards(
    front: Environment, strangers: Mapping[str, Stranger], name: str, happens: Callable[[Environment], None]
) -> None:
    happens(front.on(name))
    front.live_within(GENEROUS_SECONDS)
    found = found_by_strangers(front, strangers, name)
    assert found == {name: [declared_for_all(name)] * len(NETWORKS)}
    front.module("flotilla_balancer", state="ready", hosts=list(HOSTS), seconds=GENEROUS_SECONDS)
    all_hosts_answer(front)


def test_a_firewall_that_would_shut_out_its_operator_is_refused(front: Environment, tmp_path: Path) -> None:
    """As `deploy`, whose sudo hides where the connection comes from."""
    began = time.time()
    run = front.over(tmp_path, {"firewall_ssh_sources": ["192.0.2.0/24"]}).playbook("playbooks/provision.yml")
    assert run.rc != 0
    for words in (
        "nothing was touched",
        f"{tmp_path}/group_vars/all/test.yml:1: firewall_ssh_sources: ",
        "you are connected from",
        *EVERY_HOST,
        "which is in none of them, and would be locked out",
        "Next: correct it, then ansible-playbook playbooks/provision.yml -i",
    ):
        assert words in run.text
    # Each was looked at once, and no more. (Tests before this one asked the balancer.)
    assert [front.on(host).module_calls(began) for host in EVERY_HOST[1:]] == [1] * len(EVERY_HOST[1:])


# -- what must cost no request --------------------------------------------------------------------------------


def test_releases_and_rollbacks_cost_nothing(front: Environment) -> None:
    versions = itertools.cycle(("1.1.0", "1.0.0"))
    seconds = []
    with load_on(front, *EVERYTHING) as load:
        for version in itertools.islice(versions, DEPLOYS):
            seconds.append(front.deploy(version).succeeded().seconds)
            assert {front.live().version for _ in range(10)} == {version}
        for _ in range(ROLLBACKS):
            before = front.live().version
            target = next(one for one in candidates(front) if not one.endswith(f"-{before}"))
            run = front.playbook("rollback.yml", "-e", f"release={target}", "-e", f"approve={target}").succeeded()
            seconds.append(run.seconds)
            assert {front.live().version for _ in range(10)} == {target.partition("-")[2]}
        time.sleep(2)
        result = load.stop()
    print(f"\n{DEPLOYS} deploys, {ROLLBACKS} rollbacks in {seconds} s\n{result.summary()}")
    assert not result.failures, result.summary(shown=30)
    assert result.goodbyes >= 50
    stored_once(front, result)


def candidates(front: Environment) -> list[str]:
    """The releases that can be gone back to, the newest first."""
    listed = front.playbook("rollback.yml", "-e", "list=true").succeeded().text
    return re.findall(r'"(\S+) +can be gone back to', listed)


def test_a_reload_costs_nothing(front: Environment) -> None:
    with load_on(front, *EVERYTHING) as load:
        for _ in range(3):
            assert front.module("flotilla_balancer", state="reloaded")["changed"] is True
            time.sleep(2)
        result = load.stop()
    assert not result.failures, result.summary(shown=30)
    stored_once(front, result)


def test_a_drained_host_gets_nothing_until_it_is_ready(front: Environment) -> None:
    with load_on(front, *GETS_AND_POSTS) as load:
        drained = front.module("flotilla_balancer", state="drained", hosts=[HOSTS[0]], seconds=GENEROUS_SECONDS)
        assert drained["changed"] is True
        assert hosts_that_answer(front) == {HOSTS[1]}
        status = front.playbook("playbooks/status.yml")
        assert status.rc != 0
        assert f"no new request goes to {HOSTS[0]}, which is drained" in status.text
        front.module("flotilla_balancer", state="reloaded")
        assert hosts_that_answer(front) == {HOSTS[1]}
        assert front.module("flotilla_balancer", state="drained", hosts=[HOSTS[0]])["changed"] is False
        ready = front.module("flotilla_balancer", state="ready", hosts=[HOSTS[0]], seconds=GENEROUS_SECONDS)
        assert ready["changed"] is True
        all_hosts_answer(front)
        assert re.search(
            rf"{BALANCER} +{APP} +{HOSTS[0]} +up ", front.playbook("playbooks/status.yml").succeeded().text
        )
        result = load.stop()
    assert not result.failures, result.summary(shown=30)


def test_a_host_that_is_not_taken_back_is_told_with_what_to_do(front: Environment) -> None:
    """Its release serves; the way of the balancer's checks to it is cut."""
    before, host = front.live().version, front.on(HOSTS[1])
    version = {"1.0.0": "1.1.0", "1.1.0": "1.0.0"}[before]
    cut = f"blackhole {host.private_address}/32"
    front.module("flotilla_balancer", state="drained", hosts=[HOSTS[1]], seconds=GENEROUS_SECONDS)
    front.on(BALANCER).ssh(f"ip route add {cut}")
    try:
        run = front.deploy(version)
        assert run.rc == 2
        last = run.output.rstrip().splitlines()[-1]
        assert re.match(rf"{APP} {version}: mixed: .*{version} on {HOSTS[1]} \([a-z]+\) without its traffic; ", last)
        assert f". Next: ansible-playbook deploy.yml {' '.join(front.inventories)} -e app={APP}" in last
        assert f"{HOSTS[1]} gets no traffic: {BALANCER}: {HOSTS[1]} is not ready after" in run.text
        assert json.loads(host.ssh(f"tail -n 1 /opt/{APP}/history.jsonl"))["outcome"] == "mixed"
        assert hosts_that_answer(front) == {HOSTS[0]}
    finally:
        front.on(BALANCER).ssh(f"ip route del {cut}")
    assert "nothing to do, it serves on" in front.deploy(version).succeeded().output.rstrip().splitlines()[-1]
    all_hosts_answer(front)


def test_a_host_that_is_switched_off_costs_what_was_in_flight_there(front: Environment) -> None:
    droplet = docker.from_env(timeout=300).containers.get(f"{front.name}-{HOSTS[0]}")
    with load_on(front, *GETS_AND_POSTS, Stream(Kind.SLOW, Mode.NEW, concurrency=2)) as load:
        time.sleep(3)
        killed = time.time()
        droplet.kill()
        time.sleep(25)
        droplet.start()
        awake(front.on(HOSTS[0]))
        front.module("flotilla_balancer", state="ready", hosts=[HOSTS[0]], seconds=GENEROUS_SECONDS)
        result = load.stop()
    for failure in result.failures:
        print(f"{failure.time - killed:+.2f} s {failure.stream} {failure.reason} {failure.detail}")
    # A POST may have been carried out: it is sent once, and those that the host had may be lost.
    assert all(failure.stream.startswith("post") for failure in result.failures), result.summary(shown=30)
    assert len(result.failures) <= 5 + in_flight(result), result.summary(shown=30)
    all_hosts_answer(front)
    stored_once(front, result)


def in_flight(result: Result) -> float:
    """How many POSTs were on their way at a time at most, by how long their answers took here and now."""
    rates = {stream.name: stream.rate or 0.0 for stream in GETS_AND_POSTS if stream.kind is Kind.POST}
    return sum(rate * result.latency[name].p99 / 1000 for name, rate in rates.items())


@pytest.mark.thorough
def test_the_authority_is_rotated_under_load(front: Environment) -> None:
    (old,) = front.authorities()
    version = front.live().version
    given = ("-e", f"version={version}", "-e", f"approve={version}")
    with load_on(front, *EVERYTHING) as load:
        for _ in range(3):
            front.playbook("playbooks/rotate-authority.yml", *given).succeeded()
        result = load.stop()
    print(f"\n{result.summary()}")
    assert not result.failures, result.summary(shown=30)
    stored_once(front, result)
    (new,) = front.authorities()
    assert new != old
    for host in HOSTS:
        assert front.on(host).ssh("cat /opt/flotilla/nginx/certs/issued/current/ca.crt") == new
    assert old not in front.ssh(
        "cat /opt/flotilla/haproxy/authorities/$(ls -t /opt/flotilla/haproxy/authorities | head -n 1)"
    )
    all_hosts_answer(front)


@pytest.mark.thorough
def test_hosts_are_patched_and_rebooted_one_after_another(front: Environment) -> None:
    """The first that fails ends the run; the next goes on there. No request notices, and no deploy comes between."""
    patch = ("playbooks/patch.yml", "--limit", "app", "-e", "patch_upgrade=full")
    hosts = [front.on(host) for host in HOSTS]
    other = {"token": "another", "owner": "somebody", "machine": "elsewhere", "process": "1"}
    with rebooting(front, HOSTS), load_on(front, *GETS_AND_POSTS, Stream(Kind.SLOW, Mode.NEW, concurrency=2)) as load:
        hosts[0].ssh(OUTDATED)
        hosts[1].ssh("touch /run/reboot-required")
        booted = [host.ssh(BOOTED) for host in hosts]

        hosts[0].module("flotilla_lock", state="taken", host=HOSTS[0], run=other, purpose="deploy notes")
        refused = front.playbook(*patch)
        assert refused.rc != 0
        assert "the environment is locked by somebody" in refused.text
        hosts[0].module("flotilla_lock", state="released", host=HOSTS[0], run=other)

        failed = front.playbook(*patch)
        assert failed.rc != 0
        assert "Next, when that is mended: ansible-playbook playbooks/patch.yml" in failed.text
        assert hosts_that_answer(front) == {HOSTS[1]}
        assert [host.ssh("ls /opt/flotilla/lock.json", check=False) for host in hosts] == ["", ""]
        assert [host.ssh(BOOTED) for host in hosts] == booted

        hosts[0].ssh(f"rm {BROKEN}; touch /run/reboot-required")
        with ThreadPoolExecutor() as pool:
            run = pool.submit(front.playbook, *patch)
            hosts[0].ssh("timeout 110 sh -c 'until grep -qs patch /opt/flotilla/lock.json; do sleep 0.1; done'")
            deploy = front.deploy("1.1.0")
            done = run.result().succeeded()
        assert deploy.rc != 0
        assert "(patch)" in deploy.text
        result = load.stop()
    print(f"\npatched in {done.seconds:.0f} s\n{result.summary()}")
    assert not result.failures, result.summary(shown=30)
    stored_once(front, result)
    assert all(host.ssh(BOOTED) != before for host, before in zip(hosts, booted, strict=True))
    assert hosts[0].ssh("dpkg-query --show --showformat '${Version}' hello") > "1"
    all_hosts_answer(front)

    again = front.playbook("playbooks/patch.yml", "--limit", HOSTS[0], "-e", "patch_upgrade=full").succeeded()
    assert {host: recap.changed for host, recap in again.recap.items()} == {HOSTS[0]: 0}
    assert f"{HOSTS[0]}: nothing to do" in again.text


def test_newer_images_of_edges_and_balancer_cost_nothing(front: Environment) -> None:
    """The registry's tags mean other builds than when the hosts pulled them: all hosts get the same ones."""
    stacks = [*((front.on(host), "nginx", "nginx:1.30") for host in HOSTS), (front, "haproxy", "haproxy:3.0")]
    newest = [host.image_of(stack) for host, stack, _ in stacks]
    older = [host.run_an_older_build(stack, image) for host, stack, image in stacks]
    assert not set(older) & set(newest)
    all_hosts_answer(front)
    with load_on(front, *GETS_AND_POSTS, Stream(Kind.SLOW, Mode.NEW, concurrency=2)) as load:
        done = front.playbook(
            "playbooks/patch.yml", "--limit", "app:loadbalancer", "-e", "patch_reboot=never"
        ).succeeded()
        result = load.stop()
    print(f"\nrenewed in {done.seconds:.0f} s\n{result.summary()}")
    assert not result.failures, result.summary(shown=30)
    stored_once(front, result)
    assert [host.image_of(stack) for host, stack, _ in stacks] == newest
    all_hosts_answer(front)


@pytest.mark.thorough
def test_newer_images_of_data_keep_it(front: Environment) -> None:
    """Redis and Postgres are other containers then, with what was in them, on the networks that they had joined.

    Postgres' image is built on its host, with pgBackRest: it is built again, on the base that the registry has.
    """
    cache, database = front.on("production-cache-1"), front.on("production-db-1")
    rows = database.sql("SELECT count(*) FROM notes")
    newest, base = cache.image_of("redis"), database.ssh(BASE)
    cache.run_an_older_build("redis", "redis:7")
    built = database.run_an_older_build("postgres", "postgres:17")
    assert database.ssh(BASE) != base
    networks = [cache.ssh(JOINED.format("redis")), database.ssh(JOINED.format("postgres"))]
    front.playbook("playbooks/patch.yml", "--limit", "redis:postgres", "-e", "patch_reboot=never").succeeded()
    assert (cache.image_of("redis"), database.ssh(BASE)) == (newest, base)
    assert database.image_of("postgres") != built
    assert [cache.ssh(JOINED.format("redis")), database.ssh(JOINED.format("postgres"))] == networks
    front.live_within(GENEROUS_SECONDS)
    assert database.sql("SELECT count(*) FROM notes") == rows


# What the database's image is built on.
BASE = "docker image inspect --format '{{.Id}}' postgres:17"
# What a stack's container has joined; it has the stack's name.
JOINED = (
    "docker inspect --format '{{{{range $name, $_ := .NetworkSettings.Networks}}}}{{{{println $name}}}}{{{{end}}}}' {}"
)


@pytest.mark.thorough
def test_hosts_of_data_and_the_balancer_are_patched_and_rebooted(front: Environment) -> None:
    """The app has none of them for the length of a reboot, and all of them afterwards, with what was in them."""
    names = ("production-lb-1", "production-cache-1", "production-db-1")
    hosts = [front.on(name) for name in names]
    rows = hosts[2].sql("SELECT count(*) FROM notes")
    with rebooting(front, names):
        for host in hosts:
            host.ssh(f"{OUTDATED}rm {BROKEN}; touch /run/reboot-required")
        booted = [host.ssh(BOOTED) for host in hosts]
        patch = ("playbooks/patch.yml", "--limit", "loadbalancer:redis:postgres", "-e", "patch_upgrade=full")
        done = front.playbook(*patch).succeeded()
    # Data last, and Postgres after Redis.
    said = [done.text.index(f"{name}: ") for name in names]
    assert said == sorted(said)
    assert all(host.ssh(BOOTED) != before for host, before in zip(hosts, booted, strict=True))
    for host in hosts:
        assert host.ssh("dpkg-query --show --showformat '${Version}' hello") > "1"
        assert host.ssh("ls /opt/flotilla/lock.json", check=False) == ""
    front.live_within(GENEROUS_SECONDS)
    all_hosts_answer(front)
    assert hosts[2].sql("SELECT count(*) FROM notes") == rows


BROKEN = "/etc/apt/apt.conf.d/99broken"
# A package of Debian's in a version that never was, and what keeps apt from replacing it.
OUTDATED = f"""
set -e
mkdir -p /root/hello/DEBIAN
printf 'Package: hello\\nVersion: 0.1\\nArchitecture: %s\\nMaintainer: nobody\\nDescription: old\\n' \
    "$(dpkg --print-architecture)" > /root/hello/DEBIAN/control
chmod -R go-w,a+rX /root/hello
dpkg-deb --build /root/hello /root/hello.deb > /dev/null
dpkg --install /root/hello.deb > /dev/null
echo 'DPkg::Pre-Invoke {{"false";}};' > {BROKEN}
"""
# When a droplet's first process began.
BOOTED = "cut -d ' ' -f 22 /proc/1/stat"


@contextmanager
def rebooting(front: Environment, hosts: Sequence[str]) -> Iterator[None]:
    """Let droplets come back from a reboot of their own, as machines do."""
    droplets = [docker.from_env(timeout=300).containers.get(f"{front.name}-{host}") for host in hosts]

    def restarts(policy: Any) -> None:
        for droplet in droplets:
            droplet.update(restart_policy={"Name": policy})

    restarts("always")
    try:
        yield
    finally:
        restarts("no")


@pytest.mark.thorough
def test_stop_first_costs_nothing_behind_a_balancer(front: Environment, tmp_path: Path) -> None:
    """Each host has one colour at a time, is drained for it, and the release goes back host by host when it is bad."""
    alone = front.over(tmp_path, {"apps": [entry(environment={"UPDATE_ORDER": "stop-first"})]})
    live = front.live().version
    # The engine remembers 256 events, most of them those of health checks: somebody has to listen meanwhile.
    listen = "docker events --filter label=com.docker.compose.service=api --filter event=start --filter event=die"
    for host in map(front.on, HOSTS):
        host.ssh(f"nohup timeout 3000 {listen} --format '{{{{json .}}}}' > /root/events 2>&1 < /dev/null &")
    with load_on(front, *GETS_AND_POSTS, Stream(Kind.SLOW, Mode.NEW, concurrency=2)) as load:
        for version in ({"1.0.0": "1.1.0", "1.1.0": "1.0.0"}[live], live):
            alone.deploy(version).succeeded()
            assert {front.live().version for _ in range(10)} == {version}
        result = load.stop()
    assert not result.failures, result.summary(shown=30)
    stored_once(front, result)
    for host in map(front.on, HOSTS):
        # The old colour had ended before the new one was made.
        twice = "test $(grep -c 'Action.:.start' /root/events) -ge 2 && echo twice || true"
        eventually(partial(prints, host, twice, "twice"), why=f"both starts are told of on {host.host}")
        events = host.ssh("cat /root/events")
        assert events.count('"Action":"start"') == 2, events
        assert both_ran(events) == set(), host.host

    bad = entry(environment={"UPDATE_ORDER": "stop-first", "REHEARSE": "error_after_ready:1"})
    before = front.live().version
    run = front.over(tmp_path / "bad", {"apps": [bad]}).deploy("1.1.0")
    assert run.rc != 0
    assert "reverted, traffic moved and moved back" in run.output.rstrip().splitlines()[-1]
    assert {front.live().version for _ in range(10)} == {before}
    all_hosts_answer(front)


def both_ran(events: str) -> set[str]:
    """The moments at which a container started while another had not died yet."""
    running: set[str] = set()
    found = set()
    for line in events.splitlines():
        event = json.loads(line)
        if event["Action"] == "start":
            if running - {event["Actor"]["ID"]}:
                found.add(str(event["time"]))
            running.add(event["Actor"]["ID"])
        elif event["Action"] == "die":
            running.discard(event["Actor"]["ID"])
    return found


# -- what a user asks of it -------------------------------------------------------------------------------------


def test_the_maintenance_page_goes_on_and_off(front: Environment) -> None:
    on = front.playbook("playbooks/maintenance.yml", "-e", "maintenance=on").succeeded()
    assert on.recap[BALANCER].changed == 1
    try:
        answer = front.fetch("/")
        assert (answer.status, PAGE in answer.body.decode()) == (503, True)
        front.module("flotilla_balancer", state="reloaded")
        assert front.fetch("/").status == 503
        again = front.playbook("playbooks/maintenance.yml", "-e", f"maintenance=on app={APP}").succeeded()
        assert again.recap[BALANCER].changed == 0
    finally:
        front.playbook("playbooks/maintenance.yml", "-e", "maintenance=off").succeeded()
    assert front.fetch("/").status == 200


def test_an_unknown_name_is_not_served(front: Environment) -> None:
    assert front.fetch("/", domain="localhost").status == 200
    other = replace(front, domain="www.example.org")
    assert other.fetch("/", tls=False).status == 421


# -- what leaves the lab other than the tests above want it ----------------------------------------------------


def engine(host: Environment) -> str:
    """The process of a host's engine."""
    return host.ssh("systemctl show -p MainPID --value docker").strip()


@pytest.mark.thorough
def test_engines_are_restarted_one_after_another(front: Environment, tmp_path: Path) -> None:
    """A change that needs it: each host gets no new connection meanwhile, and what is open lives on.

    All certificates are renewed on the way.
    """
    before = {host: engine(front.on(host)) for host in HOSTS}
    certificates = {host: front.on(host).ssh(CURRENT) for host in WITH_CERTIFICATES}
    renewing = {"pki_valid_days": 398, "pki_renew_days": 397}
    changed = front.over(tmp_path, renewing, {host: {"docker_log_max_size": "11m"} for host in HOSTS})
    with load_on(front, *EVERYTHING) as load:
        changed.playbook("playbooks/provision.yml").succeeded()
        result = load.stop()
    after = {host: engine(front.on(host)) for host in HOSTS}
    assert all(before[host] != after[host] for host in HOSTS)
    assert not {front.on(host).ssh(CURRENT) for host in certificates} & set(certificates.values())
    assert not result.failures, result.summary(shown=30)
    assert result.goodbyes == 0
    stored_once(front, result)
    all_hosts_answer(front)
