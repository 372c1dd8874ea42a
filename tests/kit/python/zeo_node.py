"""A real ZEO server around an open storage, in a thread, and a client of it in the same process."""
import threading


class ZeoNode:
    def __init__(self, storage):
        from ZEO.ClientStorage import ClientStorage
        from ZEO.StorageServer import StorageServer
        self._server = StorageServer(("127.0.0.1", 0), {"1": storage})
        threading.Thread(target=self._server.loop, daemon=True).start()
        self.address = "%s:%d" % self._server.addr
        self.client = ClientStorage(self._server.addr, wait=True, wait_timeout=60)

    def close(self):
        """Closes the client, and the server with its storage."""
        self.client.close()
        self._server.close()
