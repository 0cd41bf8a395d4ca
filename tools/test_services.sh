#!/usr/bin/env bash
# Gets what the tests need from outside Python: Debian packages (as root, only what is missing), Kafka's jars and
# a TimescaleDB, both kept in the cache folder.
# Never fails: a test whose service is missing says so itself (skipped at a desk, failed when CI=true).
set -uo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { # need COMMAND PACKAGE...
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing+=("${@:2}")
}
need redis-server redis-server
need chromium chromium
need debootstrap debootstrap debian-archive-keyring
need java default-jre-headless
need mvn maven
need prometheus prometheus
need nginx nginx-light
need openssl openssl

install_missing() {
    # the packages' own services (redis-server, prometheus, nginx) shall not start: tests start their own
    local policy=/usr/sbin/policy-rc.d made_policy=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made_policy=$policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    local apt=(apt-get -qq -y -o DPkg::Lock::Timeout=300) said result=0
    said=$("${apt[@]}" update </dev/null 2>&1 &&
        "${apt[@]}" --no-install-recommends install "${missing[@]}" </dev/null 2>&1) || result=$?
    if [ $result -ne 0 ]; then echo "$said" | tail -n 5 >&2; fi
    if [ -n "$made_policy" ]; then rm -f "$made_policy"; fi
    return $result
}

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing Debian packages for the tests: ${missing[*]}"
        install_missing || echo "some packages could not be installed: ${missing[*]}" >&2
    else
        echo "not installed (needs root and apt-get): ${missing[*]}; tests that need them are skipped" >&2
    fi
fi
.venv/bin/python -m tests.services & # once some 40 s
.venv/bin/python -m fleetwatch.local.kafka_jars || echo "tests on real Apache Kafka will not run" >&2
wait
