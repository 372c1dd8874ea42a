"""The frame of every Python peer: commands come as JSON lines on stdin, answers go out as JSON lines on stdout.

A command is {"id": 7, "command": "commit", ...arguments}; its answer is {"id": 7, "result": ...} or
{"id": 7, "error": {"type": "ConflictError", "message": "..."}}. The first line is {"ready": ...} or
{"failed": error} when the start did not succeed. In between, {"log": {"level", "logger", "message"}} carries
what the libraries logged, tracebacks included.

When stdin ends the process leaves at once, as after a crash: nothing is finished, closed or saved. A test that
wants an orderly end sends "close".

Bytes travel as base64, oids and tids as 16 hexadecimal digits, options as one JSON object in argv[1].
Works on Python 3 with ZODB 5.5.1 and with ZODB 6.
"""
import base64
import json
import logging
import os
import random
import sys
import threading
import traceback


class Channel:
    """Whole lines to the test, from any thread."""

    def __init__(self):
        # Libraries print to stdout too: keep the real one, and let theirs go to stderr.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, message):
        line = json.dumps(message)
        with self._lock:
            self._out.write(line + "\n")
            self._out.flush()


class LogToChannel(logging.Handler):
    def __init__(self, channel):
        logging.Handler.__init__(self)
        self._channel = channel

    def emit(self, record):
        try:
            self._channel.send(
                {"log": {"level": record.levelname, "logger": record.name, "message": self.format(record)}})
        except Exception:
            self.handleError(record)


def describe_error(error):
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }


def serve(start):
    """Runs a peer. `start(options)` gives an object whose methods `command_<name>` are the commands; its method
    `ready()` says what the test has to know at once, `command_close()` ends it in order."""
    channel = Channel()
    logging.basicConfig(level=logging.INFO, handlers=[LogToChannel(channel)], format="%(message)s")
    try:
        peer = start(json.loads(sys.argv[1]))
        channel.send({"ready": peer.ready()})
    except Exception as error:
        channel.send({"failed": describe_error(error)})
        os._exit(1)
    for line in sys.stdin:
        request = json.loads(line)
        number = request.pop("id")
        name = request.pop("command")
        try:
            channel.send({"id": number, "result": getattr(peer, "command_" + name)(**request)})
        except Exception as error:
            channel.send({"id": number, "error": describe_error(error)})
        if name == "close":
            break
    # zc.zrs would wait here for its reactor, up to a minute.
    os._exit(0)


def from_hex(text):
    return bytes.fromhex(text)


def to_hex(value):
    return None if value is None else bytes(value).hex()


def from_base64(text):
    return base64.b64decode(text, validate=True)


def to_base64(value):
    return base64.b64encode(value).decode("ascii")


def random_bytes(size, seed):
    """The same bytes for the same seed, incompressible."""
    return random.Random(seed).getrandbits(size * 8).to_bytes(size, "big") if size else b""


# What a record begins with: the class persistent.Persistent, then a state in protocol 3.
RECORD_HEAD = b"\x80\x03cpersistent\nPersistent\nq\x00.\x80\x03B"


def random_record(size, seed):
    """A record of exactly `size` bytes whose references (none) ZODB's pack can look for: a class and a random
    byte string as its state. Below 36 bytes there is no room for that, and the bytes are merely random."""
    room = size - len(RECORD_HEAD) - 5
    if room < 0:
        return random_bytes(size, seed)
    return RECORD_HEAD + room.to_bytes(4, "little") + random_bytes(room, seed) + b"."


def content(spec, seed):
    """A record from its description: {"base64": ...}, {"text": ...} or {"size": n} (as random_record)."""
    if "base64" in spec:
        return from_base64(spec["base64"])
    if "text" in spec:
        return spec["text"].encode("utf-8")
    return random_record(spec["size"], seed)


def without_fsync():
    """Makes commits fast where durability is not what the test is about."""
    import ZODB.FileStorage
    # The package hides its module of the same name behind the class.
    sys.modules[ZODB.FileStorage.FileStorage.__module__].fsync = None


def open_storage(options):
    """A FileStorage from the options `path`, `blobDir`, `create`, `readOnly`, `packGc`, `packKeepOld`, `fsync`."""
    from ZODB.FileStorage import FileStorage
    if not options.get("fsync", True):
        without_fsync()
    return FileStorage(
        options["path"],
        create=options.get("create", False),
        read_only=options.get("readOnly", False),
        blob_dir=options.get("blobDir"),
        pack_gc=options.get("packGc", True),
        pack_keep_old=options.get("packKeepOld", True),
    )


def parse_address(text):
    """`host:port` as a pair, anything with a slash as the path of a Unix socket."""
    if "/" in text:
        return text
    host, port = text.rsplit(":", 1)
    return host, int(port)


def position_of(storage):
    """What every answer of a storage tells: its last tid and its size up to the last finished transaction."""
    return {"tid": to_hex(storage.lastTransaction()), "size": storage.getSize()}
