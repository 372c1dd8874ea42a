"""A real ZODB writer on a FileStorage, alone, as the storage of a real zc.zrs primary in the same process, or as
a client of a ZEO server in the same process.

Options: those of peer.open_storage, and `replicateTo`, `zeo`, or both: a ZEO server of a zc.zrs primary.

There are two ways to write. `commit`, `commitMany` and `commitBlobs` go through a ZODB database and its root
mapping, as applications do; the first of them adds ZODB's own transaction "initial database creation" to an
empty file. `store`, `fill`, `hold` and `undo` talk to the storage itself: any oids, tids and bytes.
"""
import base64
import time

from history import describe_history
from peer import content, from_base64, from_hex, open_storage, position_of, random_bytes, random_record, serve, to_base64, to_hex

NO_TID = b"\0" * 8


class ZodbWriter:
    def __init__(self, options):
        self._storage = self._front = open_storage(options)
        self._path = options["path"]
        self._blobs = bool(options.get("blobDir"))
        self._address = self._connection = self._held = self._zeo = None
        self._written = 0
        if options.get("replicateTo"):
            # Needed only here: ZODB 6 has no zc.zrs beside it.
            from zrs_nodes import start_primary
            self._front, self._address = start_primary(self._storage, options["replicateTo"])
        if options.get("zeo"):
            from zeo_node import ZeoNode
            self._zeo = ZeoNode(self._front)
            self._front = self._zeo.client

    def ready(self):
        return dict(position_of(self._storage), replicateTo=self._address, zeo=self._zeo and self._zeo.address)

    # Through a database.

    def _root(self):
        if self._connection is None:
            import transaction
            from ZODB import DB
            self._transactions = transaction.TransactionManager()
            self._connection = DB(self._front).open(self._transactions)
        # Storage-level writes bypass the connection: forget what it has cached.
        self._connection.cacheMinimize()
        self._transactions.begin()
        return self._connection.root()

    def _finish(self, user="", description="", extension=None):
        current = self._transactions.get()
        current.user, current.description = user, description
        for key, value in (extension or {}).items():
            current.setExtendedInfo(key, value)
        try:
            self._transactions.commit()
        except BaseException:
            self._transactions.abort()
            raise
        return position_of(self._storage)

    def _value(self, described):
        """A number means that many random bytes, new ones each time; anything else is the value itself."""
        self._written += 1
        return random_bytes(described, self._written) if isinstance(described, int) else described

    def command_commit(self, objects, **metadata):
        """`objects`: [key, size or value] each; null removes the key from the root."""
        from persistent.mapping import PersistentMapping
        root = self._root()
        for key, described in objects:
            if described is None:
                del root[key]
            elif key in root:
                root[key]["value"] = self._value(described)
            else:
                root[key] = PersistentMapping(value=self._value(described))
        return self._finish(**metadata)

    def command_commitMany(self, count, size, objects=1, keys=1000):
        """`count` transactions, each changing the next `objects` of `keys` objects, which lie in a BTree."""
        from BTrees.IOBTree import IOBTree
        from persistent.mapping import PersistentMapping
        next_key = 0
        for _ in range(count):
            root = self._root()
            tree = root.get("many")
            if tree is None:
                tree = root["many"] = IOBTree()
            for _ in range(objects):
                key = next_key % keys
                next_key += 1
                if key in tree:
                    tree[key]["value"] = self._value(size)
                else:
                    tree[key] = PersistentMapping(value=self._value(size))
            answer = self._finish(description="transaction of commitMany")
        return answer

    def command_count(self, key, change, **metadata):
        """Adds to a counter under the root, a new one counts from 0: its class resolves conflicts, of undos too."""
        from BTrees.Length import Length
        root = self._root()
        if key not in root:
            root[key] = Length()
        root[key].change(change)
        return dict(self._finish(**metadata), oid=to_hex(root[key]._p_oid))

    def command_commitBlobs(self, blobs, **metadata):
        """`blobs`: [key, size] each; a new blob or a new revision of it."""
        from ZODB.blob import Blob
        root = self._root()
        for key, size in blobs:
            if key not in root:
                root[key] = Blob()
            self._written += 1
            with root[key].open("w") as file:
                file.write(random_bytes(size, self._written))
        return self._finish(**metadata)

    # Through the storage.

    def _serial_of(self, oid):
        """The tid to name when storing; also of an object whose current record says it does not exist."""
        position = self._storage._index.get(oid)
        return NO_TID if position is None else self._storage._read_data_header(position, oid).tid

    def _begin(self, tid=None, status=" ", user="", description="", extension=None):
        from ZODB.Connection import TransactionMetaData
        raw = isinstance(extension, dict) and set(extension) == {"pickle"}
        transaction = TransactionMetaData(user, description, {} if raw else extension or {})
        self._front.tpc_begin(transaction, None if tid is None else from_hex(tid), status)
        if raw:
            # Any bytes, also such as no ZODB would write.
            texts = self._storage._ude[:2] + (from_base64(extension["pickle"]),)
            self._storage._ude = texts
            self._storage._begin(self._storage._tid, *texts)
        return transaction

    def _write(self, transaction, record):
        oid = from_hex(record["oid"])
        self._written += 1
        data = content(record, self._written) if {"base64", "text", "size"} & set(record) else None
        if record.get("delete"):
            self._front.deleteObject(oid, self._serial_of(oid), transaction)
        elif "dataTxn" in record:
            self._storage.restore(oid, self._storage._tid, data, "", from_hex(record["dataTxn"]), transaction)
        else:
            self._front.store(oid, self._serial_of(oid), data, "", transaction)

    def _vote(self, records, **metadata):
        transaction = self._begin(**metadata)
        try:
            for record in records:
                self._write(transaction, record)
            self._front.tpc_vote(transaction)
        except BaseException:
            self._front.tpc_abort(transaction)
            raise
        return transaction

    def command_store(self, transactions):
        tids = [to_hex(self._front.tpc_finish(self._vote(**each))) for each in transactions]
        return dict(position_of(self._storage), tids=tids)

    def command_fill(self, transactions, records, size, firstOid="0000000100000000"):
        """Many small new objects, fast: `transactions` times `records` of `size` bytes, oids counted up."""
        oid = int(firstOid, 16)
        data = random_record(size, 1)
        for _ in range(transactions):
            transaction = self._begin()
            for _ in range(records):
                key = oid.to_bytes(8, "big")
                self._front.store(key, self._serial_of(key), data, "", transaction)
                oid += 1
            self._front.tpc_vote(transaction)
            self._front.tpc_finish(transaction)
        return position_of(self._storage)

    def command_undo(self, transactions, **metadata):
        """Undoes in one transaction: numbers count undoable transactions from the newest, which is 1; strings
        are tids."""
        log = self._storage.undoLog(0, max([0] + [each for each in transactions if isinstance(each, int)]))
        ids = [
            log[each - 1]["id"] if isinstance(each, int) else base64.b64encode(from_hex(each))
            for each in transactions
        ]
        transaction = self._begin(**metadata)
        try:
            for each in ids:
                self._front.undo(each, transaction)
            self._front.tpc_vote(transaction)
            tid = self._front.tpc_finish(transaction)
        except BaseException:
            self._front.tpc_abort(transaction)
            raise
        return dict(position_of(self._storage), tids=[to_hex(tid)])

    def command_hold(self, **transaction):
        """Votes and leaves it there, status `c`, until `finishHeld`, `abortHeld` or the end of the process."""
        self._held = self._vote(**transaction)
        return dict(position_of(self._storage), heldTid=to_hex(self._storage._tid))

    def _take_held(self):
        held, self._held = self._held, None
        if held is None:
            raise ValueError("No transaction is held")
        return held

    def command_finishHeld(self):
        self._front.tpc_finish(self._take_held())
        return position_of(self._storage)

    def command_abortHeld(self):
        self._front.tpc_abort(self._take_held())
        return position_of(self._storage)

    def command_pack(self, days=0, timeS=None, tid=None, gc=None, keepOld=True):
        """Packs to a time (seconds since 1970), to days ago, or to just after a tid; references as ZODB sees them."""
        from persistent.timestamp import TimeStamp
        from ZODB.serialize import referencesf
        if tid is not None:
            # A float cannot hold a tid exactly: 20 microseconds put it on the later side.
            timeS = TimeStamp(from_hex(tid)).timeTime() + 0.00002
        self._storage.pack_keep_old = keepOld
        moment = (time.time() if timeS is None else timeS) - days * 86400
        if self._zeo is not None:
            self._front.pack(moment, referencesf, wait=True)
        else:
            self._storage.pack(moment, referencesf, gc=gc)
        return position_of(self._storage)

    def command_load(self, oid):
        data, tid = self._storage.load(from_hex(oid), "")
        return {"data": to_base64(data), "tid": to_hex(tid)}

    def command_status(self):
        return position_of(self._storage)

    def command_history(self):
        return describe_history(self._storage, self._path, self._blobs)

    def command_close(self):
        answer = position_of(self._storage)
        if self._connection is not None:
            self._transactions.abort()
        (self._zeo or self._front).close()
        return answer


serve(ZodbWriter)
