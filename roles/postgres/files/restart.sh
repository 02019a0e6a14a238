#!/bin/sh
# restart.sh up|restart|address <ready seconds> <stop seconds> <pause seconds>: starts the database's container anew, with its present definition
# (up) or as it is. Before it, what is dirty is written, so that the stop is short. Where a pooler runs, its clients wait meanwhile:
# it is paused when the transactions that run have ended, at most so many seconds later, and goes on however this ends. With `address`
# nothing is started anew but a pooler that looks for the server where it no longer is.
set -eu
what=$1 ready=$2 stop=$3 pause=$4
cd /opt/flotilla/postgres

console() {
    docker exec pgbouncer timeout "$pause" psql -XAtq --host=/var/run/pgbouncer --port=6432 --username=pgbouncer --dbname=pgbouncer --command="$1"
}

go_on() {
    # It says so when it was not paused.
    console RESUME > /dev/null 2>&1 || :
    systemctl stop flotilla-pooler-resume.timer 2> /dev/null || :
}

pooler() {
    docker inspect --format '{{.State.Running}} {{.State.StartedAt}}' pgbouncer 2> /dev/null || :
}

# A pooler that looks for the server where it is not ends by its health check, and is there again when this is over.
renew_address() {
    before=$(pooler)
    [ "${before%% *}" = true ] || return 0
    docker exec pgbouncer sh /usr/local/bin/healthy.sh > /dev/null 2>&1 && return
    end=$(($(date +%s) + 30))
    until [ "$(pooler)" != "$before" ] && console 'SHOW VERSION' > /dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || return 0
        sleep 0.2
    done
    echo "the pooler has begun anew: it looked for the server where it was no longer" >&2
}

if [ "$what" = address ]; then
    renew_address
    exit
fi
networks=$(docker inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{println $name}}{{end}}' postgres)
docker compose --project-name postgres pull --quiet --policy missing postgres >&2
docker exec postgres sh /etc/postgresql/session.sh postgres psql -Xq -c CHECKPOINT >&2 || :
if [ "$(docker inspect --format '{{.State.Running}}' pgbouncer 2> /dev/null)" = true ]; then
    # Should this end without a word, as with the host's memory full, the pooler goes on all the same.
    systemd-run --collect --quiet --unit=flotilla-pooler-resume --on-active="$((ready + stop + pause + 10))" \
        docker exec pgbouncer psql -Xq --host=/var/run/pgbouncer --port=6432 --username=pgbouncer --dbname=pgbouncer --command=RESUME
    trap go_on EXIT
    trap 'exit 129' HUP INT TERM
    if ! console PAUSE > /dev/null 2>&1; then
        console RESUME > /dev/null 2>&1 || :
        echo "transactions did not end within $pause s:" >&2
        docker exec postgres sh /etc/postgresql/session.sh postgres psql -XAtq -F ' ' -c "
            SELECT usename, datname, state, 'for', extract(epoch FROM now() - xact_start)::int, 's' FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 5" >&2
        exit 75
    fi
fi
case $what in
up) docker compose --project-name postgres up --detach postgres >&2 ;;
restart) docker compose --project-name postgres restart postgres >&2 ;;
esac
# Those of the apps are not the stack's. On each it is found under the same name, and as a rule the same address, as before.
for network in $networks; do
    docker network connect --alias postgres "$network" postgres 2> /dev/null || :
done
end=$(($(date +%s) + ready))
until docker exec postgres pg_isready --quiet --host=127.0.0.1 --username=postgres --dbname=postgres; do
    [ "$(date +%s)" -lt "$end" ] || exit 1
    sleep 0.1
done
renew_address
