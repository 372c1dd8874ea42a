"""What real ZODB finds in a FileStorage, as plain data for comparing two files transaction by transaction."""
import hashlib
import io
import sys

from peer import to_base64, to_hex


def sha256(data):
    return None if data is None else hashlib.sha256(data).hexdigest()


def blob_digest(storage, oid, tid):
    """Length and SHA-256 of a blob revision, or None when its file is missing."""
    from ZODB.POSException import POSKeyError
    try:
        path = storage.loadBlob(oid, tid)
    except POSKeyError:
        return None
    digest, length = hashlib.sha256(), 0
    with open(path, "rb") as blob:
        for block in iter(lambda: blob.read(1 << 20), b""):
            digest.update(block)
            length += len(block)
    return {"length": length, "sha256": digest.hexdigest()}


def describe_record(storage, headers, record, with_blobs):
    from ZODB.blob import is_blob_record
    header = headers._read_data_header(record.pos)
    described = {
        "oid": to_hex(record.oid),
        "tid": to_hex(record.tid),
        "dataTxn": to_hex(record.data_txn),
        "length": None if record.data is None else len(record.data),
        "sha256": sha256(record.data),
        "position": record.pos,
        "previous": header.prev,
        # The position that a record without data of its own points at; 0: the object does not exist.
        "backPointer": header.back if header.plen == 0 else None,
    }
    if with_blobs and record.data and is_blob_record(record.data):
        described["blob"] = blob_digest(storage, record.oid, record.tid)
    return described


def describe_transaction(storage, headers, transaction, with_blobs):
    # The iterator of ZODB 5.5.1 decodes the extension: read the stored bytes again.
    header = headers._read_txn_header(transaction._tpos)
    return {
        "tid": to_hex(transaction.tid),
        "status": transaction.status,
        "user": to_base64(header.user),
        "description": to_base64(header.descr),
        "extension": to_base64(header.ext),
        "position": transaction._tpos,
        "records": [describe_record(storage, headers, record, with_blobs) for record in transaction],
    }


def describe_history(storage, path, with_blobs):
    """Every transaction of an open FileStorage, oldest first."""
    from ZODB.FileStorage.FileStorage import FileIterator
    from ZODB.FileStorage.format import FileStorageFormatter
    headers = FileStorageFormatter()
    with open(path, "rb") as file:
        headers._file = file
        transactions = FileIterator(path)
        try:
            return [describe_transaction(storage, headers, each, with_blobs) for each in transactions]
        finally:
            transactions.close()


def current_records(storage):
    """The current revision of every object in the index: oid, its tid, and its data's digest (None: none)."""
    from ZODB.POSException import POSKeyError
    current = []
    for oid in storage._index.keys():
        try:
            data, tid = storage.load(oid, "")
        except POSKeyError:
            data, tid = None, None
        current.append({"oid": to_hex(oid), "tid": to_hex(tid), "sha256": sha256(data)})
    return current


def run_fstest(path):
    """None when fstest finds nothing wrong, else what it says."""
    from ZODB.scripts import fstest
    try:
        fstest.check(path)
    except fstest.FormatError as error:
        return str(error)
    return None


def run_fsrefs(path):
    """None when fsrefs finds nothing wrong, else what it prints."""
    from ZODB.scripts import fsrefs
    printed, stdout = io.StringIO(), sys.stdout
    sys.stdout = printed
    try:
        fsrefs.main(path)
    finally:
        sys.stdout = stdout
    return printed.getvalue() or None
