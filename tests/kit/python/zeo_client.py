"""A ZEO client that knows several servers, as an application does that shall outlive one of them.

Options: `addresses`.
"""
from peer import parse_address, serve, to_hex


class ZeoClient:
    def __init__(self, options):
        import transaction
        from ZEO.ClientStorage import ClientStorage
        from ZODB import DB
        addresses = [parse_address(each) for each in options["addresses"]]
        # As long as a test waits for anything: until then it is the server that is missing.
        self._storage = ClientStorage(addresses, wait=True, wait_timeout=110)
        self._db = DB(self._storage)
        self._transactions = transaction.TransactionManager()
        self._connection = self._db.open(self._transactions)

    def ready(self):
        return {}

    def command_set(self, key, values):
        """Gives `key` under the root one value after the other, each in a transaction that is tried until it is
        committed, by whichever server there is then."""
        from ZEO.Exceptions import ClientDisconnected
        for value in values:
            while True:
                try:
                    self._transactions.begin()
                    self._connection.root()[key] = value
                    self._transactions.get().description = "%s is %s" % (key, value)
                    self._transactions.commit()
                    break
                except ClientDisconnected:
                    self._transactions.abort()
        return {"tid": to_hex(self._storage.lastTransaction())}

    def command_get(self, key):
        self._transactions.begin()
        return {"value": self._connection.root().get(key)}

    def command_close(self):
        self._transactions.abort()
        self._db.close()
        return {}


serve(ZeoClient)
