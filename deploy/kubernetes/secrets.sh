#!/bin/sh
# Prints the secrets that deploy/kubernetes needs, with new random passwords:
#   DASHBOARD_PASSWORD=... deploy/kubernetes/secrets.sh | kubectl apply -f -
# Once: the stores keep the passwords that they were made with. Needs openssl. With TELEGRAM_TOKEN and TELEGRAM_CHAT_IDS
# ([1,2]), perhaps TELEGRAM_USER_IDS, alerts go to Telegram; GATEWAY_TOKENS takes lines of `fleetwatch gateway token`.
set -eu
if [ -z "${DASHBOARD_PASSWORD:-}" ]; then
    echo "set DASHBOARD_PASSWORD: nobody could sign in" >&2
    exit 2
fi
in64() { printf '%s' "$1" | openssl base64 -A; }
postgres=$(openssl rand -hex 24)
redis=$(openssl rand -hex 24)
users="${DASHBOARD_USER:-fleetwatch}:$(printf '%s' "$DASHBOARD_PASSWORD" | openssl passwd -apr1 -stdin)"

cat <<END
apiVersion: v1
kind: Namespace
metadata:
  name: fleetwatch
---
apiVersion: v1
kind: Secret
metadata:
  name: fleetwatch-stores
  namespace: fleetwatch
data:
  postgres_password: $(in64 "$postgres")
  redis_password: $(in64 "$redis")
---
apiVersion: v1
kind: Secret
metadata:
  name: fleetwatch-users
  namespace: fleetwatch
data:
  users: $(in64 "$users")
---
apiVersion: v1
kind: Secret
metadata:
  name: fleetwatch
  namespace: fleetwatch
data:
  fleetwatch_database_url: $(in64 "postgresql://postgres:$postgres@timescaledb:5432/fleetwatch")
  fleetwatch_redis_url: $(in64 "redis://:$redis@redis:6379/0")
  fleetwatch_gateway_tokens: "$(in64 "${GATEWAY_TOKENS:-}")"
END
if [ -n "${TELEGRAM_TOKEN:-}" ]; then echo "  fleetwatch_telegram_token: $(in64 "$TELEGRAM_TOKEN")"; fi
if [ -n "${TELEGRAM_CHAT_IDS:-}" ]; then echo "  fleetwatch_telegram_chat_ids: $(in64 "$TELEGRAM_CHAT_IDS")"; fi
if [ -n "${TELEGRAM_USER_IDS:-}" ]; then echo "  fleetwatch_telegram_user_ids: $(in64 "$TELEGRAM_USER_IDS")"; fi
