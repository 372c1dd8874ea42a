/** Ports that pass everything on, for planting bugs: a subclass changes one thing. */
import type {
  Address,
  BlockFile,
  Connection,
  Disk,
  FileLock,
  FileStatus,
  Listener,
  Network,
  ReadableFile,
} from "../../lib/ports/mod.ts";

export class DisguisedFile implements BlockFile {
  readonly file: BlockFile;

  constructor(file: ReadableFile) {
    this.file = file as BlockFile; // a file for reading is only asked to read
  }

  get path(): string {
    return this.file.path;
  }

  readAt(into: Uint8Array, position: number): number {
    return this.file.readAt(into, position);
  }

  size(): number {
    return this.file.size();
  }

  identity(): string {
    return this.file.identity();
  }

  writeAt(bytes: Uint8Array, position: number): void {
    this.file.writeAt(bytes, position);
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    return this.file.write(bytes, position);
  }

  truncate(size: number): void {
    this.file.truncate(size);
  }

  sync(): Promise<void> {
    return this.file.sync();
  }

  close(): void {
    this.file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export class DisguisedDisk implements Disk {
  readonly disk: Disk;
  readonly #disguise: (file: ReadableFile) => BlockFile;

  /** @param disguise what becomes of each file that is opened or created */
  constructor(disk: Disk, disguise: (file: ReadableFile) => BlockFile = (file) => file as BlockFile) {
    this.disk = disk;
    this.#disguise = disguise;
  }

  openRead(path: string): ReadableFile {
    return this.#disguise(this.disk.openRead(path));
  }

  openWrite(path: string): BlockFile {
    return this.#disguise(this.disk.openWrite(path));
  }

  create(path: string): BlockFile {
    return this.#disguise(this.disk.create(path));
  }

  status(path: string): FileStatus | undefined {
    return this.disk.status(path);
  }

  realPath(path: string): string {
    return this.disk.realPath(path);
  }

  list(directory: string): string[] {
    return this.disk.list(directory);
  }

  makeDirectory(path: string): boolean {
    return this.disk.makeDirectory(path);
  }

  setMode(path: string, mode: number): void {
    this.disk.setMode(path, mode);
  }

  rename(from: string, to: string): void {
    this.disk.rename(from, to);
  }

  link(path: string, name: string): boolean {
    return this.disk.link(path, name);
  }

  copyPermissions(from: string, to: string): void {
    this.disk.copyPermissions(from, to);
  }

  remove(path: string): void {
    this.disk.remove(path);
  }

  freeBytes(path: string): number {
    return this.disk.freeBytes(path);
  }

  syncDirectory(directory: string): Promise<void> {
    return this.disk.syncDirectory(directory);
  }

  lock(path: string): FileLock {
    return this.disk.lock(path);
  }

  mark(path: string, use: "followed" | "owned"): FileLock | undefined {
    return this.disk.mark(path, use);
  }

  watch(directory: string, changed: () => void, prefix?: string): Disposable {
    return this.disk.watch(directory, changed, prefix);
  }
}

export class DisguisedConnection implements Connection {
  readonly connection: Connection;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  get peer(): string {
    return this.connection.peer;
  }

  get written(): number {
    return this.connection.written;
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.connection.read(into);
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.connection.write(bytes);
  }

  close(): void {
    this.connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export class DisguisedNetwork implements Network {
  readonly #network: Network;
  readonly #disguise: (connection: Connection, how: "made" | "accepted") => Connection;

  /** @param disguise what becomes of each connection, made or accepted */
  constructor(network: Network, disguise: (connection: Connection, how: "made" | "accepted") => Connection) {
    this.#network = network;
    this.#disguise = disguise;
  }

  async connect(address: Address, options?: { signal?: AbortSignal }): Promise<Connection> {
    return this.#disguise(await this.#network.connect(address, options), "made");
  }

  async listen(address: Address): Promise<Listener> {
    const listener = await this.#network.listen(address);
    const close = () => listener.close();
    return {
      address: listener.address,
      accept: async () => {
        const connection = await listener.accept();
        return connection === null ? null : this.#disguise(connection, "accepted");
      },
      close,
      [Symbol.dispose]: close,
    };
  }
}
