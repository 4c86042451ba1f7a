#!/usr/bin/env bash
# The page receives zips; the watch evaluates them, in a process of its own. If either ends, the container ends, and the Space's
# log shows why. On a machine that cannot sandbox strangers' code the watch refuses to run (H104).
set -euo pipefail
# shellcheck disable=SC2046 # one word for each process
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
trap 'exit 0' TERM INT
mkdir -p "$PLACE/entries" "$PLACE/public"
starter doctor || true
starter batch "$PLACE/entries" --watch --html "$PLACE/public/board" &
uvicorn app:app --host 0.0.0.0 --port "${PORT:-7860}" --no-server-header --limit-concurrency 64 &
wait -n
