"""Opens files with real ZODB and tells what it finds. One process checks any number of files.

Options: none.
"""
import glob
import os

from history import current_records, describe_history, run_fsrefs, run_fstest
from peer import open_storage, position_of, serve, to_hex


class OpenCheck:
    def __init__(self, options):
        pass

    def ready(self):
        return {}

    def command_check(self, path, readOnly=True, blobDir=None, fsrefs=False, transactions=True):
        """Opens and closes the file as given, and describes it as opened.

        A read-write open may cut a torn tail off into `.trN` and saves an index, as any real open does.
        """
        fstest = run_fstest(path)
        storage = open_storage({"path": path, "readOnly": readOnly, "blobDir": blobDir})
        try:
            answer = position_of(storage)
            answer["objects"] = len(storage)
            answer["maxOid"] = to_hex(storage._oid)
            # ZODB keeps this for its own tests: whether the index was taken, and only the rest scanned.
            answer["usedIndex"] = bool(storage._used_index)
            answer["fstest"] = fstest
            answer["savedTails"] = sorted(os.path.basename(each) for each in glob.glob(glob.escape(path) + ".tr*"))
            if transactions:
                answer["transactions"] = describe_history(storage, path, blobDir is not None)
                answer["current"] = current_records(storage)
        finally:
            storage.close()
        answer["fsrefs"] = run_fsrefs(path) if fsrefs else None
        return answer

    def command_close(self):
        return {}


serve(OpenCheck)
