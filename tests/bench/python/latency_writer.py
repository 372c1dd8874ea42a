"""A real ZODB writer that notes when it commits, alone or as the storage of a real zc.zrs primary.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of the machine share.
Options: those of peer.open_storage, and `replicateTo`.
"""
import time

import kit_path  # noqa: F401
from peer import open_storage, position_of, random_record, serve, to_hex
from zrs_nodes import start_primary

NO_TID = b"\0" * 8


class LatencyWriter:
    def __init__(self, options):
        self._storage = self._front = open_storage(options)
        self._address = None
        if options.get("replicateTo"):
            self._front, self._address = start_primary(self._storage, options["replicateTo"])
        self._next_oid = 1 << 32

    def ready(self):
        return dict(position_of(self._storage), replicateTo=self._address)

    def command_commit(self, count, size, pauseMs):
        """Commits `count` transactions of one new object each, with a pause before each.

        Answers [tid, when tpc_finish was called, when it returned] for each.
        """
        from ZODB.Connection import TransactionMetaData
        front, data, times = self._front, random_record(size, 1), []
        for _ in range(count):
            time.sleep(pauseMs / 1000)
            transaction = TransactionMetaData()
            front.tpc_begin(transaction)
            front.store(self._next_oid.to_bytes(8, "big"), NO_TID, data, "", transaction)
            self._next_oid += 1
            front.tpc_vote(transaction)
            began = time.monotonic_ns()
            tid = front.tpc_finish(transaction)
            times.append([to_hex(tid), began, time.monotonic_ns()])
        return {"times": times}

    def command_close(self):
        self._front.close()
        return {}


serve(LatencyWriter)
