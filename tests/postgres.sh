#!/usr/bin/env bash
# Runs a command with a PostgreSQL server of its own, which POSTERN_POSTGRES names; the server and its data go with it.
#   tests/postgres.sh cargo test -p postern-host --lib -- --ignored in_postgres
set -euo pipefail
(($# > 0)) || { echo "usage: $0 COMMAND..." >&2; exit 2; }

shopt -s nullglob
found=("$(dirname "$(command -v initdb || echo /nowhere/initdb)")"/initdb /usr/lib/postgresql/*/bin/initdb)
for initdb in "${found[@]}"; do [[ -x $initdb ]] && bin=$(dirname "$initdb"); done
[[ -n ${bin-} ]] || { echo "no PostgreSQL here: its packages have initdb" >&2; exit 1; }

# The server refuses to run as root.
as=()
if ((EUID == 0)); then as=(setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/nonexistent); fi
folder=$(mktemp -d)
chmod 755 "$folder"
mkdir "$folder/data"
if ((EUID == 0)); then chown nobody:nogroup "$folder" "$folder/data"; fi
stop() {
    "${as[@]}" "$bin/pg_ctl" --silent --pgdata "$folder/data" --mode immediate stop || true
    rm -rf "$folder"
}
trap stop EXIT
(
    cd "$folder"
    # For connections that leave the machine, as far as the tests can have them.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=an authority' \
        -keyout ca.key -out ca.pem 2> openssl.log
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=localhost' -keyout data.key -out data.csr 2> openssl.log
    openssl x509 -req -in data.csr -CA ca.pem -CAkey ca.key -days 2 -extfile <(echo subjectAltName=DNS:localhost) \
        -out data.pem 2> openssl.log
    if ((EUID == 0)); then chown nobody:nogroup data.key; fi
    "${as[@]}" "$bin/initdb" --pgdata data --username postern --auth trust --no-sync > initdb.log
)
socket=${folder//\//%2F}
# Durable, as a member's must be, unless POSTERN_POSTGRES_OPTIONS says otherwise.
options=(-c listen_addresses=localhost -c "unix_socket_directories=$folder" -c max_connections=100 -c ssl=on
    -c "ssl_cert_file=$folder/data.pem" -c "ssl_key_file=$folder/data.key" "${POSTERN_POSTGRES_OPTIONS-}")
for ((port = 20000 + RANDOM % 20000; ; port++)); do
    "${as[@]}" "$bin/pg_ctl" --silent --pgdata "$folder/data" --log "$folder/server.log" --wait start \
        --options "${options[*]} -c port=$port" && break
    grep -q 'could not bind' "$folder/server.log" || { cat "$folder/server.log" >&2; exit 1; }
    rm "$folder/server.log"
done
export POSTERN_POSTGRES="postgres://postern@$socket:$port/postgres"
export POSTERN_POSTGRES_TLS="postgres://postern@localhost:$port/postgres?sslmode=require" POSTERN_POSTGRES_CA="$folder/ca.pem"
"$@"
