/** Streams of bytes between processes: TCP and Unix sockets, standard input and output. */

export type Address =
  | { readonly transport: "tcp"; readonly host: string; readonly port: number }
  | { readonly transport: "unix"; readonly path: string }
  /** Whoever holds the other end of our own standard input and output: one connection, once. */
  | { readonly transport: "stdio" };

export interface Connection extends Disposable {
  /** The other end, for messages: "192.0.2.1:5000" or the socket's path. */
  readonly peer: string;
  /**
   * Waits for bytes and puts what has come into `into`.
   * @returns their count, or null when the peer has closed
   * @throws UnavailableError when the connection broke or was closed here
   */
  read(into: Uint8Array): Promise<number | null>;
  /** Bytes of all writes that the system has taken so far: how a slow peer is told from a dead one. */
  readonly written: number;
  /**
   * Writes all of it. The buffer must not be touched until the promise resolves.
   * @throws UnavailableError when the connection broke or was closed here
   */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends pending reads and writes at once. Closing twice is harmless. */
  close(): void;
}

export interface Listener extends Disposable {
  /** The address really listened on: a port 0 has become the one the system chose. */
  readonly address: Address;
  /**
   * The next connection; null once the listener is closed.
   * @throws UnavailableError when the system is short of descriptors or memory: accept again
   */
  accept(): Promise<Connection | null>;
  /** Closing twice is harmless. A Unix socket's file is removed. */
  close(): void;
}

export interface Network {
  /** @throws UnavailableError (refused, unknown host, timed out, aborted) */
  connect(address: Address, options?: { signal?: AbortSignal }): Promise<Connection>;
  /**
   * @param options.mode permission bits of a Unix socket's file, from the moment it exists; without, what the
   * process's umask leaves of 0777
   * @throws UsageError (in use, not permitted, not an address of this machine)
   */
  listen(address: Address, options?: { mode?: number }): Promise<Listener>;
}
