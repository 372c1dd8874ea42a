"""Makes a Data.fs of which about half is garbage: old revisions, and objects that nothing refers to any more.

Arguments: the path, and how many objects there shall be. Each has 1 to 2 kB; it is written twice, in transactions
of 100, and every fourth is then unlinked.
"""
import os
import random
import sys

os.fsync = lambda descriptor: None  # nobody needs it after a crash

import transaction  # noqa: E402
from BTrees.IOBTree import IOBTree  # noqa: E402
from persistent.mapping import PersistentMapping  # noqa: E402
from ZODB import DB  # noqa: E402
from ZODB.FileStorage import FileStorage  # noqa: E402

AT_ONCE = 100
path, count = sys.argv[1], int(sys.argv[2])
chance = random.Random(1)
db = DB(FileStorage(path, create=True), cache_size=2 * AT_ONCE)
connection = db.open()
tree = connection.root()["tree"] = IOBTree()
for first in range(0, count, AT_ONCE):
    for key in range(first, first + AT_ONCE):
        tree[key] = PersistentMapping(data=chance.randbytes(chance.randrange(1000, 2000)))
    transaction.commit()
    connection.cacheGC()
for first in range(0, count, AT_ONCE):
    for key in range(first, first + AT_ONCE):
        if key % 4 == 3:
            del tree[key]
        else:
            tree[key]["data"] = chance.randbytes(chance.randrange(1000, 2000))
    transaction.commit()
    connection.cacheGC()
db.close()
