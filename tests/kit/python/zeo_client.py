"""A ZEO client that knows several servers, as an application does that shall outlive one of them.

Options: `addresses`, `blobDir` (a directory of its own for copies of blobs; None: it knows no blobs).
"""
from peer import parse_address, serve, to_hex


class ZeoClient:
    def __init__(self, options):
        import transaction
        from ZEO.ClientStorage import ClientStorage
        from ZODB import DB
        addresses = [parse_address(each) for each in options["addresses"]]
        # As long as a test waits for anything: until then it is the server that is missing.
        self._storage = ClientStorage(addresses, wait=True, wait_timeout=110, blob_dir=options.get("blobDir"))
        self._db = DB(self._storage)
        self._transactions = transaction.TransactionManager()
        self._connection = self._db.open(self._transactions)

    def ready(self):
        return {}

    def command_set(self, key, values, blob=False):
        """Gives `key` under the root one value after the other, each in a transaction that is tried until it is
        committed, by whichever server there is then; `blob`: as the content of a blob."""
        from ZEO.Exceptions import ClientDisconnected
        for value in values:
            while True:
                try:
                    self._transactions.begin()
                    if blob:
                        self._write_blob(key, value)
                    else:
                        self._connection.root()[key] = value
                    self._transactions.get().description = "%s is %s" % (key, value)
                    self._transactions.commit()
                    break
                except ClientDisconnected:
                    self._transactions.abort()
        return {"tid": to_hex(self._storage.lastTransaction())}

    def _write_blob(self, key, value):
        from ZODB.blob import Blob
        root = self._connection.root()
        if key not in root:
            root[key] = Blob()
        with root[key].open("w") as file:
            file.write(str(value).encode("latin-1"))

    def command_get(self, key, blob=False):
        self._transactions.begin()
        value = self._connection.root().get(key)
        if blob and value is not None:
            with value.open("r") as file:
                value = file.read().decode("latin-1")
        return {"value": value}

    def command_close(self):
        self._transactions.abort()
        self._db.close()
        return {}


serve(ZeoClient)
