"""A real zc.zrs primary on an existing file, without a writer.

Options: those of peer.open_storage, and `replicateTo`.
"""
from peer import open_storage, position_of, serve
from zrs_nodes import start_primary


class ZrsPrimary:
    def __init__(self, options):
        self._storage = open_storage(options)
        self._primary, self._address = start_primary(self._storage, options["replicateTo"])

    def ready(self):
        return dict(position_of(self._storage), replicateTo=self._address)

    def command_status(self):
        return position_of(self._storage)

    def command_close(self):
        answer = position_of(self._storage)
        self._primary.close()
        return answer


serve(ZrsPrimary)
