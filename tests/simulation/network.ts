/**
 * A simulated network between hosts. A host is known by its name; "localhost", "127.0.0.1" and "::1" mean the
 * host itself, and "0.0.0.0" and "::" all its interfaces.
 *
 *     const network = new SimulatedNetwork(scheduler, random);
 *     const port: Network = network.port(life, "primary");     // for one process
 *     network.partition("primary", "secondary");               // nothing arrives, in both directions
 *     network.silence("primary", "secondary");                 // the same in one direction
 *     network.heal("primary", "secondary"); network.healAll();
 *     network.cut("primary", "secondary");                     // breaks the connections there are
 *     network.link("primary", "secondary").latencyMs = 2_000;  // slow from now on
 *     network.switchOff("secondary"); network.switchOn("secondary");
 *
 * Latency, bandwidth, buffer sizes and how bytes are cut and merged on the way come from the seed. A write
 * resolves when the buffers, which are bounded, have taken all of it: a peer that does not read blocks the
 * writer. Closing while the peer's bytes are unread may reset the connection and lose what was sent before,
 * as TCP does. A process that is killed closes its connections; of a host that is switched off nothing more
 * comes, or by chance a reset. Once it is on again, it answers old connections with a reset.
 */
import { UnavailableError, UsageError } from "../../lib/errors.ts";
import type { Address, Connection, Listener, Network } from "../../lib/ports/mod.ts";
import { SimulatedConnection } from "./connection.ts";
import { type Life, never } from "./life.ts";
import { Link } from "./link.ts";
import { Pipe } from "./pipe.ts";
import type { SeededRandom } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

/** How long a host tries to reach one that does not answer. */
const CONNECT_TIMEOUT_MS = 127_000;
/** How many connections wait to be accepted. */
const BACKLOG = 128;
const OWN_NAMES: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "::1", "0.0.0.0", "::"]);

export class SimulatedNetwork {
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  readonly #hosts = new Set<string>();
  readonly #down = new Set<string>();
  readonly #links = new Map<string, Link>();
  readonly #listeners = new Map<string, SimulatedListener>();
  #connections: SimulatedConnection[] = [];
  #sweepAt = 64;
  #nextPort = 40_000;

  constructor(scheduler: Scheduler, random: SeededRandom) {
    this.scheduler = scheduler;
    this.random = random.fork("network");
  }

  /** The network as a process on a host sees it; the host exists from now on. */
  port(life: Life, host: string): Network {
    this.addHost(host);
    return new ProcessNetwork(this, life, host);
  }

  addHost(host: string): void {
    this.#hosts.add(host);
  }

  /** The way from one host to another; the way back is another link. */
  link(from: string, to: string): Link {
    const key = `${from}→${to}`;
    let link = this.#links.get(key);
    if (link === undefined) {
      link = new Link(this.scheduler, this.random.fork(key), from === to);
      this.#links.set(key, link);
    }
    return link;
  }

  /** Nothing that one host sends arrives at the other any more. */
  silence(from: string, to: string): void {
    this.scheduler.note("network", `silence ${from}→${to}`);
    this.link(from, to).silence();
  }

  /** Silence in both directions. */
  partition(a: string, b: string): void {
    this.silence(a, b);
    this.silence(b, a);
  }

  heal(a: string, b: string): void {
    this.scheduler.note("network", `heal ${a}↔${b}`);
    this.link(a, b).heal();
    this.link(b, a).heal();
  }

  healAll(): void {
    for (const link of this.#links.values()) link.heal();
  }

  /** Breaks all connections between two hosts, losing any part of what is under way. */
  cut(a: string, b: string): void {
    this.scheduler.note("network", `cut ${a}↔${b}`);
    for (const end of this.#connections) {
      if ((end.host === a && end.peerHost === b) || (end.host === b && end.peerHost === a)) end.cut();
    }
  }

  /** Nothing comes from this host any more; end its processes next. */
  switchOff(host: string): void {
    this.#down.add(host);
  }

  /** The host answers again, and knows nothing of its old connections. */
  switchOn(host: string): void {
    this.#down.delete(host);
    for (const end of this.#connections) {
      if (end.host === host && !end.life.alive) end.incoming.retransmit();
    }
  }

  isDown(host: string): boolean {
    return this.#down.has(host);
  }

  listen(life: Life, host: string, address: Address): SimulatedListener {
    if (address.transport === "tcp" && !OWN_NAMES.has(address.host) && address.host !== host) {
      throw new UsageError(`Cannot listen on ${address.host}: it is not an address of ${host}`);
    }
    const own = address.transport === "tcp" && address.port === 0
      ? { ...address, port: this.#nextPort++ }
      : address;
    const key = listenerKey(host, own);
    if (this.#listeners.has(key)) throw new UsageError(`Cannot listen on ${key}: it is in use`);
    const listener = new SimulatedListener(own, life, () => this.#listeners.delete(key));
    this.#listeners.set(key, listener);
    return listener;
  }

  connect(life: Life, host: string, address: Address, signal?: AbortSignal): Promise<Connection> {
    if (address.transport === "stdio") throw new UsageError("Cannot connect to -: nobody is there");
    const target = address.transport === "unix" || OWN_NAMES.has(address.host) ? host : address.host;
    const name = address.transport === "unix" ? address.path : `${address.host}:${address.port}`;
    const unavailable = (why: string) =>
      new UnavailableError(`Cannot connect to ${name}: ${why}`, { peer: name });
    if (signal?.aborted) return Promise.reject(unavailable("aborted"));
    if (!this.#hosts.has(target)) return Promise.reject(unavailable("unknown host"));
    return new Promise((resolve, reject) => {
      let settled = false;
      const settle = (action: () => void) => {
        if (settled) return;
        settled = true;
        timeout.cancel();
        signal?.removeEventListener("abort", abort);
        if (life.alive) action();
      };
      const abort = () => settle(() => reject(unavailable("aborted")));
      const timeout = this.scheduler.after(
        CONNECT_TIMEOUT_MS,
        () => settle(() => reject(unavailable("timed out"))),
      );
      signal?.addEventListener("abort", abort);
      const there = this.link(host, target);
      const back = this.link(target, host);
      const send = (link: Link, action: () => void) =>
        this.scheduler.after(link.latencyMs, () => link.pass(action));
      send(there, () => {
        if (this.isDown(target) || !life.alive) return; // no answer: the timeout tells
        const listener = this.#listeners.get(listenerKey(target, address));
        if (listener === undefined || !listener.life.alive || listener.waiting >= BACKLOG) {
          send(back, () => settle(() => reject(unavailable("connection refused"))));
          return;
        }
        const [client, server] = this.#join(life, host, listener.life, target, name);
        listener.offer(server);
        send(back, () => {
          if (settled || !life.alive) client.close();
          settle(() => resolve(client));
        });
      });
    });
  }

  #join(
    clientLife: Life,
    clientHost: string,
    serverLife: Life,
    serverHost: string,
    serverName: string,
  ): [SimulatedConnection, SimulatedConnection] {
    const clientName = `${clientHost}:${this.#nextPort++}`;
    const random = this.random.fork(`${clientName}→${serverName}`);
    const up = new Pipe(`${clientName}→${serverName}`, this.link(clientHost, serverHost), random.fork("up"));
    const down = new Pipe(
      `${serverName}→${clientName}`,
      this.link(serverHost, clientHost),
      random.fork("down"),
    );
    const common = { scheduler: this.scheduler, isDown: (host: string) => this.isDown(host) };
    const client = new SimulatedConnection(
      {
        ...common,
        random: random.fork("client"),
        life: clientLife,
        host: clientHost,
        peer: serverName,
        peerHost: serverHost,
      },
      up,
      down,
    );
    const server = new SimulatedConnection(
      {
        ...common,
        random: random.fork("server"),
        life: serverLife,
        host: serverHost,
        peer: clientName,
        peerHost: clientHost,
      },
      down,
      up,
    );
    SimulatedConnection.join(client, server);
    this.#remember(client, server);
    return [client, server];
  }

  /** Keeps the connections that may still be used. */
  #remember(...ends: SimulatedConnection[]): void {
    this.#connections.push(...ends);
    if (this.#connections.length < this.#sweepAt) return;
    this.#connections = this.#connections.filter((end) => !end.over);
    this.#sweepAt = 2 * this.#connections.length + 64;
  }
}

class ProcessNetwork implements Network {
  readonly #network: SimulatedNetwork;
  readonly #life: Life;
  readonly #host: string;

  constructor(network: SimulatedNetwork, life: Life, host: string) {
    this.#network = network;
    this.#life = life;
    this.#host = host;
  }

  connect(address: Address, options: { signal?: AbortSignal } = {}): Promise<Connection> {
    this.#life.check();
    return this.#network.connect(this.#life, this.#host, address, options.signal);
  }

  listen(address: Address): Promise<Listener> {
    this.#life.check();
    return new Promise((resolve) => resolve(this.#network.listen(this.#life, this.#host, address)));
  }
}

class SimulatedListener implements Listener {
  readonly address: Address;
  readonly life: Life;
  readonly #waiting: SimulatedConnection[] = [];
  readonly #release: () => void;
  readonly #forget: () => void;
  #accepting: ((connection: Connection | null) => void)[] = [];
  #open = true;

  constructor(address: Address, life: Life, release: () => void) {
    this.address = address;
    this.life = life;
    this.#release = release;
    this.#forget = life.onEnd(() => this.close());
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** A connection has come. */
  offer(connection: SimulatedConnection): void {
    const accept = this.#accepting.shift();
    if (accept === undefined) this.#waiting.push(connection);
    else accept(connection);
  }

  accept(): Promise<Connection | null> {
    if (!this.life.alive) return never();
    const next = this.#waiting.shift();
    if (next !== undefined) return Promise.resolve(next);
    if (!this.#open) return Promise.resolve(null);
    return new Promise((resolve) => void this.#accepting.push(resolve));
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#forget();
    this.#release();
    for (const connection of this.#waiting.splice(0)) connection.close();
    const accepting = this.#accepting;
    this.#accepting = [];
    if (this.life.alive) { for (const accept of accepting) accept(null); }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function listenerKey(host: string, address: Address): string {
  if (address.transport === "stdio") throw new UsageError("Cannot listen on -: nobody is there");
  return address.transport === "unix" ? `${host}:${address.path}` : `${host}:${address.port}`;
}
