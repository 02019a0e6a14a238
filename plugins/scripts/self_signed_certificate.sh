#!/bin/sh
# Make a certificate for the given names, signed by a certificate authority that is made once.
# Usage: self_signed_certificate.sh DIRECTORY OWNER NAMES apply|check
#   NAMES  subjectAltName entries: DNS:example.com,IP:127.0.0.1
# Prints `changed` when a new certificate is due (names changed, or it ends within 30 days).
# The authority's key stays in DIRECTORY/ca, which no container mounts.
set -eu
umask 077

directory=$1
owner=$2
names=$3
mode=$4
ca=$directory/ca
target=$directory/certs/selfsigned
due_seconds=2592000

current() {
    [ -f "$target/tls.key" ] &&
        [ "$(cat "$target/names" 2>/dev/null)" = "$names" ] &&
        openssl verify -CAfile "$directory/ca.crt" "$target/tls.crt" &&
        openssl x509 -in "$target/tls.crt" -noout -checkend "$due_seconds" &&
        openssl x509 -in "$directory/ca.crt" -noout -checkend "$due_seconds"
}

if current >/dev/null 2>&1; then
    exit 0
fi
echo changed
if [ "$mode" = check ]; then
    exit 0
fi

mkdir -p "$ca"
work=$(mktemp -d "$ca/new.XXXXXX")
trap 'rm -rf "$work"' EXIT

if ! openssl x509 -in "$directory/ca.crt" -noout -checkend "$due_seconds" >/dev/null 2>&1 || [ ! -f "$ca/ca.key" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -sha256 -days 3650 \
        -subj "/CN=Flotilla authority of $(uname -n)" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout "$work/ca.key" -out "$work/ca.crt" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    chmod 644 "$work/ca.crt"
    mv "$work/ca.key" "$ca/ca.key"
    mv "$work/ca.crt" "$directory/ca.crt"
fi

cat >"$work/extensions" <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $names
END
{
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj "/CN=Flotilla" \
        -keyout "$work/tls.key" -out "$work/tls.csr" &&
        openssl x509 -req -in "$work/tls.csr" -CA "$directory/ca.crt" -CAkey "$ca/ca.key" -sha256 -days 397 \
            -set_serial "0x$(openssl rand -hex 16)" -extfile "$work/extensions" -out "$work/tls.crt"
} 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
printf '%s' "$names" >"$work/names"
chown "$owner:0" "$work/tls.key" "$work/tls.crt"
chmod 400 "$work/tls.key"
chmod 444 "$work/tls.crt"

mkdir -p "$target"
chmod 755 "$target"
rm -f "$target/names"
mv "$work/tls.key" "$target/tls.key"
mv "$work/tls.crt" "$target/tls.crt"
mv "$work/names" "$target/names"
