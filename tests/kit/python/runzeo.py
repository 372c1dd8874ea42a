"""ZEO's own `runzeo`, with its arguments. It also says how it opened the file: a line of JSON on standard error.

{"opened": path, "from": where ZODB began to scan, "to": where it ended, "before" and "after": the file's size,
"indexIsRight": whether the index is the one that a scan of the whole file gives}

What ZODB has an index for it does not scan, so from = to means that nothing had to be recovered.
"""
import json
import os
import sys

import ZEO.runzeo
import ZODB.FileStorage
from ZODB.fsIndex import fsIndex

# The package hides its module of the same name behind the class.
module = sys.modules[ZODB.FileStorage.FileStorage.__module__]
read_index = module.read_index


def telling_read_index(file, name, index, *args, **options):
    before = os.fstat(file.fileno()).st_size
    result = read_index(file, name, index, *args, **options)
    scanned = fsIndex()
    with open(name, "rb") as again:
        read_index(again, name, scanned, {}, read_only=1)
    told = {
        "opened": name,
        "from": options.get("start", 4),
        "to": result[0],
        "before": before,
        "after": os.fstat(file.fileno()).st_size,
        "indexIsRight": dict(index.items()) == dict(scanned.items()),
    }
    print(json.dumps(told), file=sys.stderr, flush=True)
    return result


module.read_index = telling_read_index
ZEO.runzeo.main()
