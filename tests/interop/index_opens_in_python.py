"""The Python side of index_opens_in_python_test.ts. Prints one JSON object.

    python index_opens_in_python.py make DATA_FS    a new database of a few thousand objects, with its index
    python index_opens_in_python.py open DATA_FS    opens it, and tells where the scan for records began

`entries` are pairs of an oid, 16 hexadecimal digits, and a position.
"""
import json
import struct
import sys

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage

# Filled pages and buckets, lone objects, and oids beyond what a double and a signed integer hold.
OIDS = list(range(3000)) + list(range(0x20000, 0x20400, 3)) + [
    2 ** 32 - 1, 2 ** 32, 2 ** 48 + 5, 2 ** 53 + 1, 2 ** 63 + 1, 2 ** 64 - 2]


def describe(storage):
    return {
        "position": storage.getSize(),
        "lastTid": storage.lastTransaction().hex(),
        "entries": [[oid.hex(), at] for oid, at in storage._index.items()],
    }


def make(path):
    storage = FileStorage(path, create=True)
    for first in range(0, len(OIDS), 1000):
        transaction = TransactionMetaData(description=b"from %d on" % first)
        storage.tpc_begin(transaction)
        for oid in OIDS[first:first + 1000]:
            storage.store(struct.pack(">Q", oid), b"\0" * 8, b"N.N.", "", transaction)
        storage.tpc_vote(transaction)
        storage.tpc_finish(transaction)
    described = describe(storage)
    storage.close()
    return described


def open_(path):
    module = sys.modules["ZODB.FileStorage.FileStorage"]  # the package has a class of that name
    starts = []
    read_index = module.read_index

    def recording(file, name, index, tindex, stop=b"\377" * 8, ltid=b"\0" * 8, start=4, *rest, **others):
        starts.append(start)
        return read_index(file, name, index, tindex, stop, ltid, start, *rest, **others)

    module.read_index = recording
    storage = FileStorage(path, read_only=True)
    described = dict(describe(storage), starts=starts)
    storage.close()
    return described


print(json.dumps({"make": make, "open": open_}[sys.argv[1]](sys.argv[2])))
