# {{ ansible_managed }}
# No core dumps, and a shell that nobody uses ends.
ulimit -c 0
if [ -z "${TMOUT:-}" ]; then
    TMOUT={{ base_shell_timeout_seconds }}
    readonly TMOUT
    export TMOUT
fi
