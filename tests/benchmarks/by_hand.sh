#!/usr/bin/env bash
# Takes a bare Debian 13 droplet to the sample app's first release over HTTPS, by hand: what provision_over_script
# compares a deploy with. It installs, pulls, starts and waits for the same things in the same order.
#
#   by_hand.sh SSH_CONFIG HOST FILES RELEASE
#
# FILES is a tar.gz of what one writes before one begins: the Compose files with their values, the programs'
# configurations, certificate, secrets. The benchmark takes it from a droplet that Flotilla provisioned, so that both
# sides run the same bytes. RELEASE names the directory below /opt/notes/releases in it.
set -euo pipefail

config=$1 host=$2 files=$3 release=$4
control=$(mktemp --directory)
trap 'rm -rf "$control"' EXIT
# The second call finds the connection of the first; the master ends by itself.
ssh=(ssh -F "$config" -l root -o BatchMode=yes -o ControlMaster=auto -o ControlPath="$control/%C" -o ControlPersist=5s)

"${ssh[@]}" "$host" tar --extract --gzip --same-owner --directory=/ < "$files"

"${ssh[@]}" "$host" bash -s -- "$host" "$release" << 'DROPLET'
set -euo pipefail

# Tries a command five times a second; fails when it has not succeeded after so many seconds.
within() {
    local seconds=$1 end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        ((SECONDS < end)) || { echo "still failing after $seconds s: $*" >&2; return 1; }
        sleep 0.2
    done
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet
    apt-get install --quiet --yes --no-install-recommends \
        ca-certificates python3-apt python3-cryptography sudo systemd-timesyncd tzdata unattended-upgrades \
        docker.io docker-cli docker-compose iptables apparmor \
        logrotate nftables openssl \
        apt-listchanges debsums libpam-passwdqc libpam-tmpdir needrestart openssh-client openssh-server
}

prepare_host() {
    local name=$1
    echo "127.0.1.1 $name" >> /etc/hosts
    echo "$name" > /etc/hostname
    hostname "$name"
    ln --symbolic --force /usr/share/zoneinfo/Etc/UTC /etc/localtime
    useradd --create-home --shell /bin/bash --password '*' deploy
    install --directory --owner=deploy --group=deploy --mode=0700 /home/deploy/.ssh
    install --owner=deploy --group=deploy --mode=0600 /root/.ssh/authorized_keys /home/deploy/.ssh/
    visudo --check --quiet
    systemctl restart systemd-journald
    # A container has its machine's swap, clock and kernel.
    if ! systemd-detect-virt --quiet --container; then
        fallocate --length 2048MiB /flotilla_swap
        chmod 0600 /flotilla_swap
        mkswap /flotilla_swap
        systemctl daemon-reload
        systemctl enable --now flotilla_swap.swap
        systemctl restart systemd-timesyncd
        sysctl --load /etc/sysctl.d/60-flotilla.conf
    fi
}

harden_host() {
    sed --in-place --regexp-extended \
        -e 's/^#?PASS_MAX_DAYS\s.*/PASS_MAX_DAYS\t60/' -e 's/^#?PASS_MIN_DAYS\s.*/PASS_MIN_DAYS\t7/' \
        -e 's/^#?UMASK\s.*/UMASK\t\t027/' -e 's/^#?HOME_MODE\s.*/HOME_MODE\t0700/' /etc/login.defs
    sed --in-place 's/^\(auth.*pam_unix\.so.*\) nullok/\1/' /etc/pam.d/common-auth
    sed --in-place 's/^# *\(auth *required *pam_wheel\.so\)$/\1 group=sudo/' /etc/pam.d/su
    sed --in-place 's/^CRON_CHECK=.*/CRON_CHECK=weekly/' /etc/default/debsums
    awk '$5 >= 3071' /etc/ssh/moduli > /etc/ssh/moduli.safe
    mv /etc/ssh/moduli.safe /etc/ssh/moduli
    echo 'tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec 0 0' >> /etc/fstab
    passwd --quiet --lock root
    chmod 0700 /etc/cron.* /root /home/deploy
    chmod 0600 /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*
    systemctl daemon-reload
    systemctl --quiet enable flotilla-ssh-undo.service
    # Who runs this looks after not being locked out: the connection stays open until the deploy user has logged in.
    sshd -t
    systemctl reload ssh
}

start_engine() {
    dockerd --validate --config-file=/etc/docker/daemon.json
    systemctl enable --now docker.service
    local network subnet range
    while read -r network subnet range; do
        docker network create --subnet "$subnet" --ip-range "$range" "$network"
    done < /opt/by-hand/networks
}

# The rules are among the files. The distribution's service would flush the engine's.
start_firewall() {
    systemctl mask --quiet nftables.service
    nft --check --file /opt/flotilla/firewall/firewall.nft
    systemctl enable --now flotilla-firewall.service
}

# All at once, as the playbook does. The values are Compose's own.
pull_images() {
    local stack pulls=()
    for stack in postgres redis nginx; do
        docker compose --project-directory "/opt/flotilla/$stack" pull --quiet &
        pulls+=($!)
    done
    for pull in "${pulls[@]}"; do
        wait "$pull"
    done
}

start_postgres() {
    cd /opt/flotilla/postgres
    docker compose up --detach --quiet-pull
    docker network connect --alias postgres notes-blue postgres
    docker network connect --alias postgres notes-green postgres
    within 120 docker exec postgres pg_isready --quiet --host=127.0.0.1 --username=postgres --dbname=postgres
    local login
    login=$(cat /opt/notes/secrets/*/database_user*)
    docker exec --interactive postgres psql --quiet --set=ON_ERROR_STOP=1 --username=postgres << SQL
CREATE ROLE notes NOLOGIN;
CREATE ROLE $login LOGIN PASSWORD '$(cat /opt/notes/secrets/*/database_password*)';
GRANT notes TO $login;
ALTER ROLE $login SET role TO 'notes';
CREATE DATABASE notes OWNER notes;
REVOKE ALL ON DATABASE notes FROM PUBLIC;
\\connect notes
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
SQL
}

start_redis() {
    cd /opt/flotilla/redis
    docker compose up --detach --quiet-pull
    docker network connect --alias redis notes-blue redis
    docker network connect --alias redis notes-green redis
    within 30 docker exec redis sh -c 'REDISCLI_AUTH="$(cat /etc/redis/password)" redis-cli --tls --cacert /etc/flotilla/certs/current/ca.crt ping | grep -qx PONG'
}

start_edge() {
    cd /opt/flotilla/nginx
    docker compose up --detach --quiet-pull --wait --wait-timeout 60
    systemctl daemon-reload
    systemctl enable --now flotilla-nginx-logs.timer
}

start_app() {
    cd "/opt/notes/releases/$2"
    set -a
    . /opt/by-hand/addresses
    FLOTILLA_HOST=$1 FLOTILLA_RELEASE=$2 FLOTILLA_COLOUR=blue
    set +a
    local colour=(docker compose -p notes-blue -f compose.json)
    "${colour[@]}" pull --quiet
    docker compose -p notes-migration -f migration.json run --rm --no-TTY migrate
    "${colour[@]}" up --detach --wait --wait-timeout 120 api ui flotilla-router
    within 120 docker exec notes-blue-flotilla-router-1 \
        curl --fail --silent --header 'Host: staging.example.com' http://127.0.0.1:8080/api/ready
    install --directory /opt/flotilla/nginx/live/notes
    touch /opt/flotilla/nginx/live/notes/deployed
    "${colour[@]}" up --detach --wait --wait-timeout 120 worker
}

main() {
    install_packages
    prepare_host "$1"
    harden_host
    start_engine
    start_firewall
    pull_images
    start_postgres
    start_redis
    start_edge
    start_app "$1" "$2"
}

# Nothing reads this script as its own input.
main "$@" < /dev/null
DROPLET

# The deploy user gets in, and the connection from before is still there if it does not.
ssh -F "$config" -l deploy -o BatchMode=yes -o ControlPath=none "$host" sudo -n true
