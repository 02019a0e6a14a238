#!/bin/sh
# Whether the pooler answers, and looks for the server where it is. Its resolver (c-ares) keeps an address for as long as the name service
# says, ten minutes in Docker's, and that there is none for up to an hour, whatever dns_max_ttl is (c-ares issue 1293): a server that was
# away when it was looked for is not found again. No command of the console makes it forget. So the pooler ends, when the server can be
# reached and not where it is looked for, and its restart policy brings it back; nobody is served then who could be cut off.
set -eu
looked=$(psql -XAtq --host=/var/run/pgbouncer --port=6432 --username=pgbouncer --dbname=pgbouncer --command='SHOW DNS_HOSTS' | grep '^postgres|') || {
    pg_isready --quiet --host=/var/run/pgbouncer --port=6432 --username=pgbouncer --dbname=pgbouncer
    exit
}
# name|seconds|address:port,…
there=$(echo "${looked##*|}" | tr ',' '\n' | sed 's/:[0-9]*$//')
here=$(getent ahostsv4 postgres | cut -d' ' -f1 | sort -u) || exit 0

reached() {
    # Two of them end within the health check's three seconds.
    timeout 1 bash -c ': < "/dev/tcp/$1/5432"' reached "$1" 2> /dev/null
}

for address in $there; do
    # To ask the server costs a line of its log.
    if echo "$here" | grep -qxF "$address" || reached "$address"; then
        exit 0
    fi
done
for address in $here; do
    if reached "$address"; then
        echo "the server is at $address, and was looked for at ${there:-no address}: the pooler begins anew" > /proc/1/fd/2
        kill -s QUIT 1
        exit 1
    fi
done
