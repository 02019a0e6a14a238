#!/bin/sh
# renew.sh <stop seconds> <address> <HTTP port> <HTTPS port>: puts a container of the image that the stack's tag means now in the edge's
# place. A second edge, next to it, takes the new connections meanwhile: nobody waits and nobody is refused. Where that one does not become
# well, nothing has changed.
set -eu
stop=$1 address=$2 http=$3 https=$4
edge=nginx-nginx-1 next=nginx-next table=flotilla_edge_renewal
cd /opt/flotilla/nginx

well() {
    end=$(($(date +%s) + 60))
    until [ "$(docker inspect --format '{{.State.Health.Status}}' "$1")" = healthy ]; do
        [ "$(date +%s)" -lt "$end" ] || {
            docker logs --tail 20 "$1" >&2
            return 1
        }
        sleep 0.2
    done
}

back() {
    nft delete table ip "$table" 2> /dev/null || :
    # What it has begun ends first.
    docker stop -t "$stop" "$next" > /dev/null 2>&1 || :
    docker rm --force --volumes "$next" > /dev/null 2>&1 || :
}

nft delete table ip "$table" 2> /dev/null || :
docker rm --force --volumes "$next" > /dev/null 2>&1 || :
trap back EXIT
trap 'exit 129' HUP INT TERM
# Published on the loopback address, so that the engine lets others reach the ports inside at all.
docker compose --project-name nginx run --detach --no-deps --name "$next" -T --publish 127.0.0.1::8080 --publish 127.0.0.1::8443 \
    nginx > /dev/null < /dev/null
well "$next"
there=$(docker inspect --format '{{(index .NetworkSettings.Networks "flotilla-edge").IPAddress}}' "$next")
case $address in
0.0.0.0) to= ;;
*) to="ip daddr $address" ;;
esac
# Before the engine's own rules, and for new connections alone.
nft -f - << RULES
table ip $table {
    chain arrival {
        type nat hook prerouting priority dstnat - 1; policy accept;
        iif != "lo" fib daddr type local $to tcp dport $http dnat to $there:8080
        iif != "lo" fib daddr type local $to tcp dport $https dnat to $there:8443
    }
}
RULES
docker compose --project-name nginx up --detach --no-deps nginx > /dev/null || {
    # The second one serves on.
    trap - EXIT
    echo "the edge was not started; the container $next serves in its place until the next attempt, or until the host reboots" >&2
    exit 1
}
well "$edge"
