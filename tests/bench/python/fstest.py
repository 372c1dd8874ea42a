"""Runs ZODB's fstest on a Data.fs and prints the milliseconds it took, as JSON.

Argument: the path.
"""
import json
import sys
import time

from ZODB.scripts import fstest

start = time.perf_counter()
fstest.check(sys.argv[1])
print(json.dumps({"tookMs": (time.perf_counter() - start) * 1000}))
