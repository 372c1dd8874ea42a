"""Notes when transactions become visible: in a replica's file, or to a secondary of the replica.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of the machine share. It looks every few hundredths
of a millisecond and sleeps in between: with two cores, a busy loop would slow down what it measures.
Options: none.
"""
import ctypes
import os
import pickle
import socket
import struct
import time

import kit_path  # noqa: F401
from peer import from_hex, parse_address, serve, to_hex

PAUSE_S = 0.00002
HEADER = struct.Struct(">8sQc")
TRAILER = 8
PR_SET_TIMERSLACK = 29


def sleep_precisely():
    """Asks the kernel (Linux) not to make short sleeps longer: its default is 50 microseconds."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    except AttributeError:
        pass


class LatencyObserver:
    def __init__(self, options):
        sleep_precisely()

    def ready(self):
        return {}

    def command_watch(self, path, position, count):
        """Waits for `count` transactions from `position` on to be final in the file: [tid, when] for each."""
        file, times = os.open(path, os.O_RDONLY), []
        try:
            while len(times) < count:
                header = os.pread(file, HEADER.size, position)
                if len(header) == HEADER.size:
                    tid, length, status = HEADER.unpack(header)
                    if status == b" ":
                        times.append([to_hex(tid), time.monotonic_ns()])
                        position += length + TRAILER
                        continue
                time.sleep(PAUSE_S)
        finally:
            os.close(file)
        return {"times": times}

    def command_follow(self, address, tid, count):
        """Replicates `count` transactions after `tid`: [tid, when its end had come] for each."""
        host, port = parse_address(address)
        times, current = [], None
        with socket.create_connection((host, port)) as connection, connection.makefile("rb") as stream:
            for message in (b"zrs2.1", from_hex(tid)):
                connection.sendall(struct.pack(">I", len(message)) + message)
            while len(times) < count:
                kind, values = pickle.loads(read_message(stream))
                if kind == "T":
                    current = values[0]
                elif kind == "S":
                    read_message(stream)
                elif kind == "C":
                    times.append([to_hex(current), time.monotonic_ns()])
                else:
                    raise ValueError("Unexpected message %r" % (kind,))
        return {"times": times}

    def command_close(self):
        return {}


def read_message(stream):
    return stream.read(struct.unpack(">I", stream.read(4))[0])


serve(LatencyObserver)
