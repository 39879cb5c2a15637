"""Run a command and write its seconds and peak memory: python3 benchmarks/launch.py RESULT.json COMMAND ...

The kernel counts the memory that the starting process had at that moment into the peak of the one that it starts.
So this one imports next to nothing: a peak above 10 MB is the command's own.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    start = time.perf_counter()
    process = subprocess.Popen(sys.argv[2:])
    _, status, usage = os.wait4(process.pid, 0)  # with the descendants that it waited for
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    with open(sys.argv[1], "w") as handle:
        json.dump({"s": seconds, "MB": usage.ru_maxrss * unit / 1e6}, handle)
    sys.exit(process.returncode if process.returncode >= 0 else 128 - process.returncode)


if __name__ == "__main__":
    main()
