#!/usr/bin/env bash
# The interface of the official image: POSTGRES_* and their _FILE variants, /docker-entrypoint-initdb.d, any user.
set -Eeuo pipefail
shopt -s nullglob

fail() {
    printf 'Error: %s\n' "$@" >&2
    exit 1
}

# from_file VAR [DEFAULT]: VAR, or the content of the file that VAR_FILE names, or the default.
from_file() {
    local name=$1 file=${1}_FILE
    [[ -z ${!name:-} || -z ${!file:-} ]] || fail "both $name and $file are set (but are exclusive)"
    if [[ -n ${!file:-} ]]; then
        [[ -r ${!file} ]] || fail "$file: cannot read ${!file}"
        export "$name"="$(< "${!file}")"
    else
        export "$name"="${!name:-${2:-}}"
    fi
    unset "$file"
}

prepare_directories() {
    local user
    user=$(id -u)
    mkdir -p "$PGDATA"
    chmod 00700 "$PGDATA" || :
    mkdir -p /var/run/postgresql || :
    chmod 03775 /var/run/postgresql || :
    if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
        mkdir -p "$POSTGRES_INITDB_WALDIR"
        chmod 700 "$POSTGRES_INITDB_WALDIR"
    fi
    if [[ $user == 0 ]]; then
        find "$PGDATA" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    fi
}

make_cluster() {
    # initdb wants a name for its user; --user may have given a number only.
    if ! getent passwd "$(id -u)" > /dev/null; then
        local library
        for library in /usr/lib/*/libnss_wrapper.so; do
            NSS_WRAPPER_PASSWD=$(mktemp)
            NSS_WRAPPER_GROUP=$(mktemp)
            export LD_PRELOAD=$library NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
            printf 'postgres:x:%s:%s:PostgreSQL:%s:/bin/false\n' "$(id -u)" "$(id -g)" "$PGDATA" > "$NSS_WRAPPER_PASSWD"
            printf 'postgres:x:%s:\n' "$(id -g)" > "$NSS_WRAPPER_GROUP"
            break
        done
    fi
    # shellcheck disable=SC2086 # POSTGRES_INITDB_ARGS is a list of words, as in the official image.
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
        ${POSTGRES_INITDB_WALDIR:+--waldir "$POSTGRES_INITDB_WALDIR"} ${POSTGRES_INITDB_ARGS:-}
    if [[ -n ${NSS_WRAPPER_PASSWD:-} ]]; then
        rm -f "$NSS_WRAPPER_PASSWD" "$NSS_WRAPPER_GROUP"
        unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
    fi
}

check_environment() {
    if [[ -z ${POSTGRES_PASSWORD:-} && ${POSTGRES_HOST_AUTH_METHOD:-} != trust ]]; then
        fail "Database is uninitialized and superuser password is not specified." \
            "You must specify POSTGRES_PASSWORD to a non-empty value for the superuser." \
            "POSTGRES_HOST_AUTH_METHOD=trust allows all connections without a password; this is *not* recommended."
    fi
    if [[ ${POSTGRES_HOST_AUTH_METHOD:-} == trust ]]; then
        echo "WARNING: POSTGRES_HOST_AUTH_METHOD is trust: anyone who reaches the port is let in." >&2
    fi
}

sql() {
    PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password "$@"
}

# Used by the scripts of /docker-entrypoint-initdb.d under this name.
docker_process_sql() {
    sql ${POSTGRES_DB:+--dbname "$POSTGRES_DB"} "$@"
}

run_init_scripts() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        echo "$0: $file"
        case $file in
        *.sh)
            if [[ -x $file ]]; then
                "$file"
            else
                # shellcheck disable=SC1090 # the user's own script, sourced as in the official image.
                . "$file"
            fi
            ;;
        *.sql) docker_process_sql -f "$file" ;;
        *.sql.gz) gunzip -c "$file" | docker_process_sql ;;
        *.sql.xz) xzcat "$file" | docker_process_sql ;;
        *.sql.zst) zstd -dc "$file" | docker_process_sql ;;
        *) echo "$0: ignoring $file" ;;
        esac
    done
}

initialise() {
    check_environment
    ls /docker-entrypoint-initdb.d/ > /dev/null
    make_cluster

    local method=${POSTGRES_HOST_AUTH_METHOD:-}
    [[ -n $method ]] || method=$(postgres -C password_encryption "$@")
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"

    # A server that only this container's socket reaches, so that nobody sees a half made database.
    local -x PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
    NOTIFY_SOCKET='' pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p ${PGPORT:-5432}$(printf ' %q' "$@")" -w start
    if [[ $POSTGRES_DB != postgres ]] &&
        [[ -z $(POSTGRES_DB='' sql --dbname postgres -v db="$POSTGRES_DB" -tA <<< "SELECT 1 FROM pg_database WHERE datname = :'db'") ]]; then
        sql --dbname postgres -v db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db"'
    fi
    run_init_scripts
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
    printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

main() {
    [[ ${1:0:1} != - ]] || set -- postgres "$@"
    if [[ ${1:-} == postgres ]] && [[ " $* " != *" --help "* && " $* " != *" --version "* && " $* " != *" -V "* && " $* " != *" --describe-config "* ]]; then
        prepare_directories
        if [[ $(id -u) == 0 ]]; then
            exec setpriv --reuid=postgres --regid=postgres --init-groups "${BASH_SOURCE[0]}" "$@"
        fi
        if [[ ! -s $PGDATA/PG_VERSION ]]; then
            from_file POSTGRES_PASSWORD
            from_file POSTGRES_USER postgres
            from_file POSTGRES_DB "$POSTGRES_USER"
            from_file POSTGRES_INITDB_ARGS
            initialise "${@:2}"
        else
            printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
        fi
    fi
    exec "$@"
}

main "$@"
