"""Opens files with real ZODB and tells what it finds. One process checks any number of files.

Options: none.
"""
import glob
import os

from history import current_records, describe_history, run_fsrefs, run_fstest
from peer import from_base64, open_storage, position_of, serve, to_base64, to_hex


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

    def command_fstest(self, path):
        """What fstest says, also where it fails in a way of its own; None: no errors."""
        try:
            return run_fstest(path)
        except Exception as error:
            return repr(error)

    def command_fsrefs(self, path):
        return run_fsrefs(path)

    def command_references(self, records):
        """The oids that ZODB finds in each record's data (base64); None where it fails."""
        from ZODB.serialize import referencesf

        def references(data):
            try:
                return [bytes(oid).hex() for oid in referencesf(from_base64(data))]
            except Exception:
                return None

        return [references(each) for each in records]

    def command_records(self):
        """Data of objects that refer to others in every form there is, in each protocol that ZODB has used."""
        import io

        from zodbpickle import binary, pickle

        class Reference(object):
            def __init__(self, form):
                self.form = form

        def dump(protocol, klass, state):
            file = io.BytesIO()
            pickler = pickle.Pickler(file, 3 if protocol == 2 else protocol)
            pickler.persistent_id = lambda value: value.form if isinstance(value, Reference) else None
            pickler.dump(klass)
            pickler.dump(state)
            data = file.getvalue()
            if protocol == 2:
                # As Python 2 wrote it, whose strings are bytes.
                data = data.replace(b"\x80\x03", b"\x80\x02").replace(b"C\x08", b"U\x08")
            return to_base64(data)

        def records(protocol, oid, other):
            forms = [
                oid, other, (oid, io.BytesIO), (other, None), ["w", (oid,)], ["w", (oid, "db")], [oid],
                ["n", ("db", oid)], ["m", ("db", oid, io.BytesIO)],
            ]
            states = [Reference(form) for form in forms]
            states += [[each, {"key": each, 1.5: (each, [None, True])}] for each in states]
            states += [{"all": [Reference(form) for form in forms], oid: oid, "x" * 8: "y" * 300}, None, 2 ** 100]
            classes = [io.BytesIO, (io.BytesIO, (Reference(oid),)), (("io", "BytesIO"), None), Reference(oid)]
            return [dump(protocol, klass, state) for klass in classes for state in states]

        oid, other = binary(b"\0\0\0\0\0\0\1\x7f"), binary(b"ABCDEFGH")
        far = binary(b"\xff\0\0\0\0\0\1\xff")
        return records(1, "\0" * 7 + "\x7f", "ABCDEFGH") + records(2, oid, other) + records(3, far, other)

    def command_close(self):
        return {}


serve(OpenCheck)
