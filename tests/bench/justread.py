"""The least a node agent has to do: `python tests/bench/justread.py LIST` reads the files of a list once a second.

Lines that end in "/" are directories to be listed. Nothing is parsed, and nothing else is imported.
"""

import os
import sys
import time


def main(path: str) -> None:
    """For ever."""
    with open(path) as lines:  # noqa: PTH123  nothing else is imported
        wanted = lines.read().split("\n")
    files = [name for name in wanted if name and not name.endswith("/")]
    folders = [name for name in wanted if name.endswith("/")]
    turn, began = 0, time.monotonic()
    while True:
        for folder in folders:
            os.listdir(folder)  # noqa: PTH208
        for name in files:
            handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            while os.read(handle, 1 << 17):
                pass
            os.close(handle)
        turn += 1
        time.sleep(max(0.0, began + turn - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1])
