#!/bin/sh
# neighbour.sh <private address>: a network namespace that is the droplet's neighbour, and a server that answers.
set -eu
ip netns add neighbour
ip link add neighbour0 type veth peer name outside netns neighbour
# The outer engine switches IPv6 off.
echo 0 > /proc/sys/net/ipv6/conf/neighbour0/disable_ipv6
ip netns exec neighbour sh -c 'for file in all lo outside; do echo 0 > /proc/sys/net/ipv6/conf/$file/disable_ipv6; done'
ip address add 198.51.100.1/24 dev neighbour0
ip address add 2001:db8:51::1/64 dev neighbour0 nodad
ip link set neighbour0 up

inside() {
    ip -n neighbour "$@"
}
inside link set lo up
inside link set outside up
for address in 198.51.100.2/24 198.51.100.3/24 169.254.169.254/32; do inside address add "$address" dev outside; done
inside address add 2001:db8:51::2/64 dev outside nodad
ip route add 169.254.169.254 dev neighbour0
inside route add "$1" via 198.51.100.1
inside route add 172.17.0.0/16 via 198.51.100.1
# Whoever wants to ask a neighbour's loopback address gives up his own.
inside address del 127.0.0.1/8 dev lo
ip netns exec neighbour sh -c 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet'
inside route add 127.0.0.1 via 198.51.100.1

cat > /opt/answer.py <<'PYTHON'
import socket, sys, threading

def serve(kind, port):
    server = socket.socket(socket.AF_INET6, kind)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        server.listen()
    while True:
        if kind == socket.SOCK_STREAM:
            client, _ = server.accept()
            client.close()
        else:
            _, client = server.recvfrom(100)
            server.sendto(b"answer", client)

for port in sys.argv[1:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        threading.Thread(target=serve, args=(kind, int(port))).start()
PYTHON
