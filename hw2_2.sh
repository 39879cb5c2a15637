#!/usr/bin/env bash
# usage: bash hw2_2.sh OUT_DIR
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
exec python3 "$here/p2_inference.py" "$@"
