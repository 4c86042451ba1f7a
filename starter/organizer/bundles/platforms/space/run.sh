#!/usr/bin/env bash
# The page receives zips; the batch evaluates them, in a process of its own. If either ends, the container ends, and the Space's
# log shows why. On a machine that cannot sandbox strangers' code the batch refuses to run (H104).
set -euo pipefail
mkdir -p "$PLACE/entries"
starter doctor || true
starter batch "$PLACE/entries" --watch --html "$PLACE/site" &
uvicorn app:app --host 0.0.0.0 --port "${PORT:-7860}" --no-server-header --limit-concurrency 64 &
wait -n
