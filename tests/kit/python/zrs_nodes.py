"""Real zc.zrs primaries and secondaries around an open storage, as ZRS's own configuration would build them."""
import threading

from peer import parse_address


def start_primary(storage, address):
    """Wraps `storage` in a zc.zrs Primary that listens; port 0 takes a free one.

    Returns the primary and the address it really listens on. Left alone, zc.zrs only logs that it could not
    listen; here that is an error.
    """
    from zc.zrs.primary import Primary
    parsed = parse_address(address)
    primary = Primary(storage, parsed)
    # The reactor runs what it is handed in order: once this is called, the listener was tried.
    tried = threading.Event()
    primary._reactor.callFromThread(tried.set)
    if not tried.wait(60) or primary._listener is None:
        raise OSError("Cannot listen on %s: see the log" % address)
    if isinstance(parsed, str):
        return primary, parsed
    host = primary._listener.getHost()
    return primary, "%s:%d" % (host.host, host.port)


def start_secondary(storage, address, keep_alive_delay, reconnect_delay):
    """A zc.zrs Secondary that feeds `storage` (a FileStorage, or a Primary in a chain).

    `reconnect_delay` in seconds; zc.zrs has no setting for it in its configuration, and waits 60.
    """
    from zc.zrs.secondary import Secondary
    return Secondary(
        storage, parse_address(address), reconnect_delay=reconnect_delay, keep_alive_delay=keep_alive_delay)
