"""Opens a Data.fs and prints the milliseconds it took and the memory held then (MiB), as JSON.

Read-only: then ZODB saves no index afterwards.

Argument: the path.
"""
import json
import sys
import time

from ZODB.FileStorage import FileStorage

start = time.perf_counter()
storage = FileStorage(sys.argv[1], read_only=True)
took = time.perf_counter() - start
with open("/proc/self/status") as status:
    resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
print(json.dumps({"tookMs": took * 1000, "usedIndex": bool(storage._used_index), "residentMiB": resident / 1024}))
