#!/bin/sh
# As in the official image: before nginx starts, every executable *.sh of /docker-entrypoint.d runs, and every *.envsh is sourced.
set -e

say() {
    [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"
}

case ${1:-} in
nginx | nginx-debug)
    for script in /docker-entrypoint.d/*; do
        case $script in
        *.envsh) if [ -x "$script" ]; then say "Sourcing $script" && . "$script"; fi ;;
        *.sh) if [ -x "$script" ]; then say "Launching $script" && "$script"; fi ;;
        *) say "Ignoring $script" ;;
        esac
    done
    say "Configuration complete; ready for start up"
    ;;
esac

exec "$@"
