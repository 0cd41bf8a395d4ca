#!/bin/sh
# Makes what nginx needs and does not find in a folder: a certificate signed by itself, and the file of users.
#   setup.sh FOLDER      with DASHBOARD_PASSWORD, and perhaps DASHBOARD_USER, TLS_HOST, in the environment
# A certificate that is there already (fullchain.pem, privkey.pem) is left alone.
set -eu
umask 077
folder=${1:?which folder?}
host=${TLS_HOST:-localhost}

if [ ! -e "$folder/fullchain.pem" ]; then
    case $host in
    *:*) name=IP:$host ;;
    *[!0-9.]*) name=DNS:$host ;;
    *) name=IP:$host ;;
    esac
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 397 -subj "/CN=$host" \
        -addext "subjectAltName=$name,DNS:localhost,IP:127.0.0.1" -addext "extendedKeyUsage=serverAuth" \
        -keyout "$folder/privkey.pem" -out "$folder/fullchain.pem.new" 2>/dev/null
    mv "$folder/fullchain.pem.new" "$folder/fullchain.pem"
    echo "made a certificate for $host; browsers will ask whether to trust it"
fi
if [ -n "${DASHBOARD_PASSWORD:-}" ]; then
    hash=$(printf '%s' "$DASHBOARD_PASSWORD" | openssl passwd -6 -stdin)
    printf '%s:%s\n' "${DASHBOARD_USER:-fleetwatch}" "$hash" >"$folder/users.new"
    mv "$folder/users.new" "$folder/users"
elif [ ! -e "$folder/users" ]; then
    echo "nobody could sign in: set DASHBOARD_PASSWORD, or put a file of users (htpasswd) into $folder" >&2
    exit 2
fi
