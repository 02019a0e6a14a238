"""What provisioning and a deploy made of the hosts of a lab, in words that do not depend on when it was."""

from __future__ import annotations

import json

from tests.e2e.fleet import Environment
from tests.lab.containers import in_parallel

SCRIPT = r"""
set -eu
echo "stamp $(sha256sum < /opt/flotilla/stamp.json)"
systemctl list-unit-files --no-legend --plain --state=enabled,masked,static | awk '{print "unit", $1, $2}'
systemctl list-units --no-legend --plain --state=active --type=service,timer,socket | awk '{print "active", $1}' \
    | grep -E 'flotilla|docker|ssh|nftables|chrony|timesync|unattended'
docker ps --all --format 'container {{.Names}} {{.Image}} {{.State}} {{.Ports}}'
docker network ls --quiet | xargs docker network inspect \
    --format 'network {{.Name}} {{.Driver}} {{.Internal}} {{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} {{end}}'
docker volume ls --format 'volume {{.Name}}' | grep -Ev ' [0-9a-f]{64}$' || true
nft list table inet flotilla | sed -E 's/counter packets [0-9]+ bytes [0-9]+/counter/; s/^/rule /'
find /opt/flotilla /etc/docker -name '*.crt' | sort | while read -r path; do
    echo "certificate $path $(openssl x509 -in "$path" -noout -subject -issuer -serial | tr '\n' ' ')"
done
sed -n 's/^[0-9]/name &/p' /etc/hosts
getent passwd | awk -F: '$3 >= 1000 {print "account", $1, $3, $7}'
"""


def facts(environment: Environment) -> dict[str, list[str]]:
    """Host → lines: stamp, units, containers, networks, volumes, firewall rules, certificates, names, accounts."""
    hosts = [one["host"] for one in json.loads((environment.directory / "lab.json").read_text())["droplets"]]
    said = in_parallel(lambda host: environment.on(host).ssh(SCRIPT).splitlines(), hosts)
    return {host: sorted(lines) for host, lines in zip(hosts, said, strict=True)}
