"""Packs a Data.fs to now and prints what that took, as JSON: milliseconds, bytes read and written by system calls,
and the most memory there was (MiB).

Argument: the path. Opening the file, which has an index, is part of it.
"""
import json
import sys
import time

from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf


def transferred():
    with open("/proc/self/io") as file:
        fields = dict(line.split(": ") for line in file)
    return int(fields["rchar"]), int(fields["wchar"])


def peak():
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024


before = transferred()
start = time.perf_counter()
storage = FileStorage(sys.argv[1])
storage.pack(time.time(), referencesf)
storage.close()
took = (time.perf_counter() - start) * 1000
read, written = (after - at_first for after, at_first in zip(transferred(), before))
print(json.dumps({"tookMs": took, "read": read, "written": written, "peakMiB": peak()}))
