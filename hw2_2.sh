#!/usr/bin/env bash
# usage: bash hw2_2.sh OUT_DIR
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
exec python3 "$here/p2_inference.py" "$@"
