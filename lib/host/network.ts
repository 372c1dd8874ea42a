/** Streams between processes over TCP and Unix sockets of this machine. */

import { type Address, type Connection, formatAddress, type Listener, type Network } from "../ports/mod.ts";
import { UnavailableError, UsageError } from "../errors.ts";
import { HostConnection } from "./connection.ts";
import { codeOf } from "./failure.ts";
import { abortWords, isImpossible, networkWords } from "./network_failure.ts";
import { StdioConnection, StdioListener } from "./stdio.ts";
import { bindUnixSocket } from "./unix_socket.ts";

/** How long accept waits before it reports that the system has run out of something. */
const EXHAUSTED_PAUSE_MS = 100;

export class HostNetwork implements Network {
  async connect(address: Address, options: { signal?: AbortSignal } = {}): Promise<Connection> {
    const { signal } = options;
    const peer = formatAddress(address);
    if (address.transport === "stdio") return StdioConnection.take();
    let conn: Deno.Conn;
    try {
      signal?.throwIfAborted();
      conn = await connectTo(address, signal);
      if (signal?.aborted) {
        conn.close();
        signal.throwIfAborted();
      }
    } catch (cause) {
      const action = `Cannot connect to ${peer}`;
      if (signal?.aborted) throw new UnavailableError(`${action}: ${abortWords(signal)}`, { peer, cause });
      if (isImpossible(cause)) throw new UsageError(`${action}: ${networkWords(cause)}`, { peer, cause });
      throw new UnavailableError(`${action}: ${networkWords(cause)}`, { peer, cause });
    }
    return new HostConnection(conn, peer);
  }

  async listen(address: Address, options: { mode?: number } = {}): Promise<Listener> {
    if (address.transport === "unix") {
      const bound = await bindUnixSocket(address.path, options.mode);
      return new HostListener(bound.listener, address, bound.release);
    }
    if (address.transport === "stdio") return new StdioListener();
    let listener: Deno.TcpListener;
    try {
      listener = listenOn(unbracketed(address.host), address.port);
    } catch (cause) {
      throw new UsageError(`Cannot listen on ${formatAddress(address)}: ${networkWords(cause)}`, {
        cause,
        hint: listenHint(cause),
      });
    }
    const { hostname, port } = listener.addr;
    return new HostListener(listener, { transport: "tcp", host: hostname, port });
  }
}

class HostListener implements Listener {
  readonly address: Address;
  readonly #listener: Deno.Listener;
  readonly #release: () => void;
  /** Aborted by closing; ends the pause of a waiting accept. */
  readonly #closing = new AbortController();

  constructor(listener: Deno.Listener, address: Address, release: () => void = () => {}) {
    this.#listener = listener;
    this.address = address;
    this.#release = release;
  }

  /**
   * @throws UnavailableError when the system is short of descriptors or memory; it is safe to accept again at
   * once, for this error comes after a pause
   */
  async accept(): Promise<Connection | null> {
    while (!this.#closing.signal.aborted) {
      try {
        const conn = await this.#listener.accept();
        if (!this.#closing.signal.aborted) return new HostConnection(conn, this.#peerOf(conn));
        conn.close();
      } catch (cause) {
        if (this.#closing.signal.aborted) break;
        if (isLostBeforeAccept(cause)) continue;
        await this.#pause();
        if (this.#closing.signal.aborted) break;
        throw new UnavailableError(
          `Cannot accept a connection on ${formatAddress(this.address)}: ${networkWords(cause)}`,
          { cause },
        );
      }
    }
    return null;
  }

  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#listener.close();
    this.#release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** A client's end of a Unix socket has no name, so it is called by ours. */
  #peerOf(conn: Deno.Conn): string {
    const { remoteAddr } = conn;
    if (!("hostname" in remoteAddr)) return formatAddress(this.address);
    // A socket for both versions of IP shows a version 4 peer as an address of version 6.
    const host = remoteAddr.hostname.replace(/^::ffff:(?=\d+\.)/, "");
    return formatAddress({ transport: "tcp", host, port: remoteAddr.port });
  }

  #pause(): Promise<void> {
    const { signal } = this.#closing;
    return new Promise((resolve) => {
      const timer = setTimeout(end, EXHAUSTED_PAUSE_MS);
      signal.addEventListener("abort", end);
      function end(): void {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        resolve();
      }
    });
  }
}

/** All interfaces are those of IP version 4 where the machine has no others. */
function listenOn(hostname: string, port: number): Deno.TcpListener {
  try {
    return Deno.listen({ hostname, port });
  } catch (error) {
    if (hostname !== "::" || !["EAFNOSUPPORT", "EADDRNOTAVAIL"].includes(codeOf(error))) throw error;
    return Deno.listen({ hostname: "0.0.0.0", port });
  }
}

function connectTo(
  address: Exclude<Address, { transport: "stdio" }>,
  signal: AbortSignal | undefined,
): Promise<Deno.Conn> {
  if (address.transport === "unix") return Deno.connect({ transport: "unix", path: address.path });
  const hostname = unbracketed(address.host);
  return Deno.connect({ hostname, port: address.port, ...(signal && { signal }) });
}

/** IPv6 literals are accepted with and without the brackets that a port after them needs. */
function unbracketed(host: string): string {
  return host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host;
}

/** The client was gone before we took its connection: nothing to report, the next one may be waiting. */
function isLostBeforeAccept(error: unknown): boolean {
  return ["ECONNABORTED", "ECONNRESET", "EPROTO", "EINTR"].includes(codeOf(error));
}

function listenHint(error: unknown): string {
  switch (codeOf(error)) {
    case "EADDRINUSE":
      return "Stop the process that listens there, or choose another port; 0 picks a free one";
    case "EACCES":
    case "EPERM":
      return "Choose a port above 1023, or permit this one (CAP_NET_BIND_SERVICE)";
    case "EADDRNOTAVAIL":
      return "Name an address of this machine, or listen on all interfaces with :port";
    default:
      return "Name an address of this machine and a port from 0 to 65535";
  }
}
