"""A real zc.zrs secondary, optionally with a primary behind it (a chain).

Options: those of peer.open_storage, `replicateFrom`, `replicateTo`, `keepAliveDelay` (seconds, default 0: none)
and `reconnectDelay` (seconds, default 0.2; zc.zrs's own is 60).
"""
import time

from peer import from_hex, open_storage, position_of, serve, to_base64, to_hex
from zrs_nodes import start_primary, start_secondary


class ZrsSecondary:
    def __init__(self, options):
        self._storage = open_storage(options)
        self._primary = self._address = None
        base = self._storage
        if options.get("replicateTo"):
            self._primary, self._address = start_primary(base, options["replicateTo"])
            base = self._primary
        self._secondary = start_secondary(
            base, options["replicateFrom"], options.get("keepAliveDelay", 0), options.get("reconnectDelay", 0.2))

    def ready(self):
        return dict(position_of(self._storage), replicateTo=self._address)

    def command_status(self):
        return position_of(self._storage)

    def command_waitFor(self, tid):
        """Answers once the last transaction is `tid` or a later one; gives up just before the test would."""
        wanted = from_hex(tid)
        deadline = time.monotonic() + 110
        while self._storage.lastTransaction() < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError("Waited for tid %s, last is %s" % (tid, to_hex(self._storage.lastTransaction())))
            time.sleep(0.002)
        return position_of(self._storage)

    def command_load(self, oid):
        data, tid = self._storage.load(from_hex(oid), "")
        return {"data": to_base64(data), "tid": to_hex(tid)}

    def command_disconnect(self):
        """Drops the connection; the secondary comes back after its reconnect delay."""
        instance = self._secondary._factory.instance
        if instance is not None:
            self._secondary._reactor.callFromThread(instance.transport.loseConnection)
        return {"wasConnected": instance is not None}

    def command_pack(self, timeS):
        from ZODB.serialize import referencesf
        self._storage.pack(timeS, referencesf)
        return position_of(self._storage)

    def command_close(self):
        answer = position_of(self._storage)
        self._secondary.close()
        return answer


serve(ZrsSecondary)
