#!/usr/bin/env bash
# Verify the checkpoints beside this script and fetch what is missing: bash hw2_download.sh [--url URL]
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
old='import sys; sys.exit(sys.version_info < (3, 10) and sys.argv[1] + sys.version.split()[0])'
python3 -IS -c "$old" "${0##*/}: error: needs Python 3.10 or newer, this is " || exit 2
exec python3 "$here/common/download.py" "$@"
