#!/bin/sh
# The interface of the official image: options or a *.conf alone mean redis-server; root gives up its rights.
set -e

case ${1:-} in
-* | *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
fi

[ "$(umask)" != 0022 ] || umask 0077

# The official build has the protected mode off unless a file or an option says otherwise.
if [ "$1" = redis-server ]; then
    case ${2:-} in
    '' | -*) file= ;;
    *) file=$2 ;;
    esac
    case " $* " in
    *' --protected-mode '* | *' --version '* | *' --help '* | *' -v '* | *' -h '* | *' - '*) ;;
    *) [ -n "$file" ] && grep -qi '^ *protected-mode ' "$file" || set -- "$@" --protected-mode no ;;
    esac
fi

exec "$@"
