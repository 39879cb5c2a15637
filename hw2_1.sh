#!/usr/bin/env bash
# usage: bash hw2_1.sh OUT_DIR
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
old='import sys; sys.exit(sys.version_info < (3, 10) and sys.argv[1] + sys.version.split()[0])'
python3 -IS -c "$old" "${0##*/}: error: needs Python 3.10 or newer, this is " || exit 2
exec python3 "$here/p1_inference.py" "$@"
