/**
 * The real thing to test against: ZODB writers, zc.zrs primaries and secondaries, and ZODB's own view of a file.
 * Tids and oids are 16 hexadecimal digits here, as Python's side sends them; sizes and lengths are in bytes.
 */
import assert from "node:assert/strict";
import { type EnvironmentName, findInterpreter } from "./environments.ts";
import type { History } from "./history.ts";
import { Peer, startPeer } from "./peer.ts";

/** A test that needs real peers: it is registered as ignored where one of the environments is missing. */
export function peerTest(
  name: string,
  needs: readonly EnvironmentName[],
  body: (context: Deno.TestContext) => Promise<void>,
): void {
  Deno.test({ name, ignore: needs.some((each) => findInterpreter(each) === undefined), fn: body });
}

/** @throws AssertionError where there is none */
export function interpreterOf(environment: EnvironmentName): string {
  const interpreter = findInterpreter(environment);
  assert(
    interpreter !== undefined,
    `Cannot start a peer: environment ${environment} is missing (use peerTest)`,
  );
  return interpreter;
}

/** How a FileStorage is opened; what is left out is as in ZODB, but for `fsync`. */
export interface StorageOptions {
  readonly path: string;
  readonly blobDir?: string | undefined;
  /** Begin a new database, removing one that is there. */
  readonly create?: boolean;
  readonly readOnly?: boolean;
  readonly packGc?: boolean;
  readonly packKeepOld?: boolean;
  /** Whether commits wait for the disk, as they do in ZODB. Default: false, which spares the tests much time. */
  readonly fsync?: boolean;
}

/** Without waiting for the disk, unless that was asked for. */
function quick<Options extends StorageOptions>(options: Options): Options {
  return { fsync: false, ...options };
}

/** The last tid, and the size up to the last finished transaction. */
export interface LogEnd {
  readonly tid: string;
  readonly size: number;
}

/** At its start a peer tells this; `replicateTo` is the address listened on, or null. */
export interface Ready extends LogEnd {
  readonly replicateTo: string | null;
  /** Where its ZEO server listens. */
  readonly zeo?: string | null;
}

/** A primary's address, for whoever is to replicate from it. */
function addressOf(ready: Ready): string {
  assert(ready.replicateTo !== null, "Cannot give an address: the peer was started without replicateTo");
  return ready.replicateTo;
}

export interface Metadata {
  readonly user?: string;
  readonly description?: string;
  readonly extension?: Readonly<Record<string, unknown>>;
}

/** Data of a record: `size` random bytes that ZODB takes for a record without references; text; or bytes. */
export type Content = { readonly size: number } | { readonly text: string } | { readonly base64: string };

export type StoredRecord =
  & { readonly oid: string }
  & (
    | Content
    /** ZODB's deleteObject: the object does not exist any more. */
    | { readonly delete: true }
    /** Restores: a back pointer to the revision of that transaction, where its data are the same. */
    | (Partial<Content> & { readonly dataTxn: string })
  );

export interface StoredTransaction extends Omit<Metadata, "extension"> {
  /** Any 64 bits; default: the next one by the clock. */
  readonly tid?: string;
  /** Default: a space. */
  readonly status?: string;
  /** A dict, or the very bytes (base64) to be written. */
  readonly extension?: Readonly<Record<string, unknown>> | { readonly pickle: string };
  readonly records: readonly StoredRecord[];
}

/**
 * A real ZODB writer; with `replicateTo` it is the storage of a real zc.zrs primary, with `zeo` a client of a real
 * ZEO server, which then is what writes the file.
 */
export class ZodbWriter extends Peer<Ready> {
  static async start(
    environment: EnvironmentName,
    options: StorageOptions & {
      /** The address for secondaries; port 0 takes a free one. Needs the environment zodb55. */
      readonly replicateTo?: string;
      /** Without blobs; packing then always collects garbage. */
      readonly zeo?: boolean;
    },
  ): Promise<ZodbWriter> {
    return new ZodbWriter(
      await startPeer<Ready>(interpreterOf(environment), "zodb_writer.py", quick(options)),
    );
  }

  /** The address that secondaries connect to. */
  get address(): string {
    return addressOf(this.ready);
  }

  /** Where ZEO clients connect, and whoever asks for the last transaction. */
  get zeoAddress(): string {
    const { zeo } = this.ready;
    assert(typeof zeo === "string", "Cannot give an address: the peer was started without zeo");
    return zeo;
  }

  /** Writes under the root: a number makes a value of that many random bytes; null removes the key. */
  async commit(
    objects: readonly (readonly [key: string, sizeOrValue: number | string | null])[],
    metadata: Metadata = {},
  ): Promise<LogEnd> {
    return await this.ask("commit", { ...metadata, objects });
  }

  /** `count` transactions, each with new values of `size` bytes for the next `objects` (1) of `keys` (1000). */
  async commitMany(
    options: { count: number; size: number; objects?: number; keys?: number },
  ): Promise<LogEnd> {
    return await this.ask("commitMany", options);
  }

  /** Adds to a counter under the root: ZODB resolves conflicts of its changes, also where one of them is undone. */
  async count(key: string, change: number, metadata: Metadata = {}): Promise<LogEnd & { oid: string }> {
    return await this.ask("count", { ...metadata, key, change });
  }

  /** New blobs under the root, or new revisions of them, of random bytes. Needs `blobDir`. */
  async commitBlobs(
    blobs: readonly (readonly [key: string, size: number])[],
    metadata: Metadata = {},
  ): Promise<LogEnd> {
    return await this.ask("commitBlobs", { ...metadata, blobs });
  }

  /** Transactions of any bytes, through the storage. ZODB 5.5.1 writes nothing for one without records. */
  async store(transactions: readonly StoredTransaction[]): Promise<LogEnd & { tids: string[] }> {
    return await this.ask("store", { transactions });
  }

  /** `transactions` times `records` new objects of `size` bytes each, quickly, oids counted up from 2^32. */
  async fill(
    options: { transactions: number; records: number; size: number; firstOid?: string },
  ): Promise<LogEnd> {
    return await this.ask("fill", options);
  }

  /**
   * Undoes transactions, all in one transaction: a number counts undoable ones from the newest, which is 1; a
   * string is a tid. Undoing an undo redoes; undoing a creation leaves a record that says "does not exist".
   */
  async undo(
    transactions: readonly (number | string)[],
    metadata: Metadata = {},
  ): Promise<LogEnd & { tids: string[] }> {
    return await this.ask("undo", { ...metadata, transactions });
  }

  /** Votes and stays there: the file ends with a transaction of status `c`. The answer has the end before it. */
  async hold(transaction: StoredTransaction): Promise<LogEnd & { heldTid: string }> {
    return await this.ask("hold", transaction);
  }

  async finishHeld(): Promise<LogEnd> {
    return await this.ask("finishHeld");
  }

  async abortHeld(): Promise<LogEnd> {
    return await this.ask("abortHeld");
  }

  /** Packs to now, to `days` ago, to `timeS` (seconds since 1970), or to just after the transaction `tid`. */
  async pack(
    options: { days?: number; timeS?: number; tid?: string; gc?: boolean; keepOld?: boolean } = {},
  ): Promise<LogEnd> {
    return await this.ask("pack", options);
  }

  /** The current revision; data in base64. @throws PeerError POSKeyError */
  async load(oid: string): Promise<{ data: string; tid: string }> {
    return await this.ask("load", { oid });
  }

  async status(): Promise<LogEnd> {
    return await this.ask("status");
  }

  /** Every finished transaction in the file. */
  async history(): Promise<History> {
    return await this.ask("history");
  }

  /** Closes storage and primary, saves the index, and ends the process. */
  async close(): Promise<LogEnd> {
    return await this.askToClose();
  }
}

/** A real zc.zrs primary on an existing file, without a writer. */
export class ZrsPrimary extends Peer<Ready> {
  static async start(options: StorageOptions & { readonly replicateTo: string }): Promise<ZrsPrimary> {
    return new ZrsPrimary(await startPeer<Ready>(interpreterOf("zodb55"), "zrs_primary.py", quick(options)));
  }

  get address(): string {
    return addressOf(this.ready);
  }

  async status(): Promise<LogEnd> {
    return await this.ask("status");
  }

  async close(): Promise<LogEnd> {
    return await this.askToClose();
  }
}

/** A real zc.zrs secondary; with `replicateTo` it is a primary for others as well. */
export class ZrsSecondary extends Peer<Ready> {
  static async start(
    options: StorageOptions & {
      readonly replicateFrom: string;
      readonly replicateTo?: string;
      /** Seconds between keep-alives; default 0, none. */
      readonly keepAliveDelay?: number;
      /** Seconds from a lost or refused connection to the next try; default 0.2 (zc.zrs itself: 60). */
      readonly reconnectDelay?: number;
    },
  ): Promise<ZrsSecondary> {
    return new ZrsSecondary(
      await startPeer<Ready>(interpreterOf("zodb55"), "zrs_secondary.py", quick(options)),
    );
  }

  get address(): string {
    return addressOf(this.ready);
  }

  /** Waits until the transaction `tid`, or a later one, has been finished here. */
  async waitFor(tid: string): Promise<LogEnd> {
    return await this.ask("waitFor", { tid });
  }

  async load(oid: string): Promise<{ data: string; tid: string }> {
    return await this.ask("load", { oid });
  }

  /** Drops the connection to the primary; it comes back after the reconnect delay. */
  async disconnect(): Promise<{ wasConnected: boolean }> {
    return await this.ask("disconnect");
  }

  /** Packs the secondary's own file to a time in seconds since 1970. */
  async pack(timeS: number): Promise<LogEnd> {
    return await this.ask("pack", { timeS });
  }

  async status(): Promise<LogEnd> {
    return await this.ask("status");
  }

  async close(): Promise<LogEnd> {
    return await this.askToClose();
  }
}

/** A client of real ZEO servers that knows the addresses of several, and goes on with whichever there is. */
export class ZeoClient extends Peer<Record<string, never>> {
  /** @param blobDir a directory of its own for copies of blobs; undefined: it knows no blobs */
  static async start(
    environment: EnvironmentName,
    addresses: readonly string[],
    blobDir?: string,
  ): Promise<ZeoClient> {
    return new ZeoClient(
      await startPeer(interpreterOf(environment), "zeo_client.py", { addresses, blobDir }),
    );
  }

  /** Gives a key under the root one value after the other, a transaction each; waits for a server as long as it takes. */
  async set(key: string, values: readonly (number | string)[]): Promise<{ tid: string }> {
    return await this.ask("set", { key, values });
  }

  /** As {@link set}, each value as the content of a blob. */
  async setBlob(key: string, values: readonly string[]): Promise<{ tid: string }> {
    return await this.ask("set", { key, values, blob: true });
  }

  /** The content of a blob under the root; null: there is none. */
  async getBlob(key: string): Promise<string | null> {
    return (await this.ask<{ value: string | null }>("get", { key, blob: true })).value;
  }

  /** The value of a key under the root; null: none. */
  async get(key: string): Promise<number | string | null> {
    return (await this.ask<{ value: number | string | null }>("get", { key })).value;
  }

  async close(): Promise<void> {
    await this.askToClose();
  }
}

/** What ZODB finds when it opens a file. */
export interface Opened extends LogEnd {
  /** The count of objects in the index. */
  readonly objects: number;
  readonly maxOid: string;
  /** Whether the saved index was taken; false: the whole file was scanned. */
  readonly usedIndex: boolean;
  /** What fstest says of the file before it is opened; null: no errors. */
  readonly fstest: string | null;
  /** What fsrefs prints after; null: nothing, or not asked for. */
  readonly fsrefs: string | null;
  /** Names of `.tr0` and so on that lie beside the file. */
  readonly savedTails: readonly string[];
  /** Left out on request. */
  readonly transactions?: History;
  /** The current revision of each object in the index; nulls: it does not exist any more. */
  readonly current?: readonly { oid: string; tid: string | null; sha256: string | null }[];
}

/** Opens files with real ZODB; one process serves any number of checks. */
export class OpenCheck extends Peer<Record<string, never>> {
  static async start(environment: EnvironmentName): Promise<OpenCheck> {
    return new OpenCheck(await startPeer(interpreterOf(environment), "open_check.py", {}));
  }

  /**
   * Opens (read-only unless told otherwise) and closes a file. A read-write open does what it does for any
   * program: cuts off a torn tail and saves the index.
   * @throws PeerError what ZODB raises when it cannot open the file
   */
  async check(
    path: string,
    options: { readOnly?: boolean; blobDir?: string; fsrefs?: boolean; transactions?: boolean } = {},
  ): Promise<Opened> {
    return await this.ask("check", { ...options, path });
  }

  /** What fstest says of a file; null: no errors. */
  async fstest(path: string): Promise<string | null> {
    return await this.ask("fstest", { path });
  }

  /** What fsrefs prints about a file; null: nothing. */
  async fsrefs(path: string): Promise<string | null> {
    return await this.ask("fsrefs", { path });
  }

  /** The oids that ZODB's `referencesf` finds in each record's data (base64); null where it fails. */
  async references(records: readonly string[]): Promise<readonly (readonly string[] | null)[]> {
    return await this.ask("references", { records });
  }

  /** Records' data (base64) with references in every form, in all protocols that ZODB has used. */
  async records(): Promise<readonly string[]> {
    return await this.ask("records");
  }
}
