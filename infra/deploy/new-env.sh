#!/bin/sh
# Prints .env.example with a fresh random value behind each name that has none. Needs openssl.
set -eu
while IFS= read -r line; do
    case $line in
    [A-Z]*=) printf '%s%s\n' "$line" "$(openssl rand -hex 20)" ;;
    *) printf '%s\n' "$line" ;;
    esac
done <"$(dirname "$0")/.env.example"
