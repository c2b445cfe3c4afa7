"""Programs that play owners and guests; each ends by itself.

    python load.py spin DIAL INDEX          burns the share of a CPU that float INDEX of the file DIAL says, 20 times a second
    python load.py hold MIB [again]         allocates, touches every page, and keeps it; with `again` touches it every second
    python load.py read FILE MIB [REST]     reads so much of a file, over and over, with REST seconds in between
    python load.py write FILE MIB           writes so much of a file, over and over

The word "ready" comes on standard output once the load is there.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time

LIFE = 300.0  # seconds
BEAT = 0.05  # of a spinning load
PAGE = 4096
PIECE = 1 << 20


def spin(dial: str, index: str) -> None:
    """CPU time, not wall time: a load that was kept waiting wants the same as before, up to one beat of arrears."""
    handle, place = os.open(dial, os.O_RDONLY), 8 * int(index)
    with mmap.mmap(handle, 0, prot=mmap.PROT_READ) as shown:
        say_ready()
        end, beat, owed = time.monotonic() + LIFE, time.monotonic(), 0.0
        while beat < end:
            [share] = struct.unpack_from("d", shown, place)
            owed = min(owed, share * BEAT) + share * BEAT
            start = time.process_time()
            while time.process_time() - start < owed:
                for _ in range(500):
                    pass
                if time.monotonic() > beat + 2 * BEAT:
                    break
            owed -= time.process_time() - start
            beat = max(beat + BEAT, time.monotonic() - BEAT)
            time.sleep(max(0.0, beat - time.monotonic()))


def hold(mebibytes: str, again: str = "") -> None:
    """Anonymous memory."""
    size = int(mebibytes) << 20
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    end, told = time.monotonic() + LIFE, False
    while time.monotonic() < end:
        if again or not told:
            for place in range(0, size, PAGE):
                memory[place] = 1
        if not told:
            told = True
            say_ready()
        time.sleep(1.0)


def read(file: str, mebibytes: str, rest: str = "0.05") -> None:
    """Page cache."""
    size, end = int(mebibytes) << 20, time.monotonic() + LIFE
    handle = os.open(file, os.O_RDONLY)
    buffer = bytearray(PIECE)
    say_ready()
    while time.monotonic() < end:
        for place in range(0, size, PIECE):
            os.preadv(handle, [buffer], place)
        time.sleep(float(rest))


def write(file: str, mebibytes: str) -> None:
    """Page cache that has to reach the disk before it can be taken back."""
    size, end = int(mebibytes) << 20, time.monotonic() + LIFE
    handle = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    piece = b"neap" * (PIECE // 4)
    say_ready()
    while time.monotonic() < end:
        for place in range(0, size, PIECE):
            os.pwrite(handle, piece, place)
        time.sleep(0.05)


def say_ready() -> None:
    os.write(1, b"ready\n")


if __name__ == "__main__":
    {"spin": spin, "hold": hold, "read": read, "write": write}[sys.argv[1]](*sys.argv[2:])
