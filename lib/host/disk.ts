/** Files and directories of this machine. */

import fs from "node:fs";
import { dirname } from "node:path";
import type { BlockFile, Disk, FileLock, FileStatus, ReadableFile } from "../ports/mod.ts";
import { UsageError } from "../errors.ts";
import { codeOf, diskFailure } from "./failure.ts";
import { HostFile, syncDescriptor } from "./file.ts";
import { lockFile, markFile } from "./lock.ts";
import { watchDirectory } from "./watch.ts";

const { O_CREAT, O_EXCL, O_NONBLOCK, O_RDONLY, O_RDWR } = fs.constants;

/** How a system says that it gives this file no second name. */
const NO_LINKS: readonly string[] = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EXDEV"];

/** The disk of this machine. Stateless: every call goes to the system. */
export class HostDisk implements Disk {
  openRead(path: string): ReadableFile {
    return openRegular(path, O_RDONLY, `Cannot open ${path}`);
  }

  openWrite(path: string): BlockFile {
    return openRegular(path, O_RDWR, `Cannot open ${path} for writing`);
  }

  create(path: string): BlockFile {
    const action = `Cannot create ${path}`;
    refuseDangling(path, action);
    return openDescriptor(path, O_RDWR | O_CREAT | O_EXCL, action);
  }

  status(path: string): FileStatus | undefined {
    return statusOf(path, `Cannot look at ${path}`);
  }

  list(directory: string): string[] {
    try {
      return fs.readdirSync(directory);
    } catch (error) {
      throw diskFailure(`Cannot list directory ${directory}`, directory, error);
    }
  }

  makeDirectory(path: string): boolean {
    try {
      fs.mkdirSync(path);
      return true;
    } catch (error) {
      if (codeOf(error) === "EEXIST" && statusOf(path, `Cannot look at ${path}`)?.kind === "directory") {
        return false;
      }
      throw diskFailure(`Cannot make directory ${path}`, path, error);
    }
  }

  setMode(path: string, mode: number): void {
    try {
      fs.chmodSync(path, mode);
    } catch (error) {
      throw diskFailure(`Cannot set the permissions of ${path}`, path, error);
    }
  }

  rename(from: string, to: string): void {
    try {
      fs.renameSync(from, to);
    } catch (error) {
      throw diskFailure(`Cannot rename ${from} to ${to}`, from, error);
    }
  }

  link(path: string, name: string): boolean {
    try {
      fs.linkSync(path, name);
      return true;
    } catch (error) {
      if (NO_LINKS.includes(codeOf(error))) return false;
      throw diskFailure(`Cannot link ${name} to ${path}`, path, error);
    }
  }

  copyPermissions(from: string, to: string): void {
    try {
      const { mode, uid, gid } = fs.statSync(from);
      try {
        fs.chownSync(to, uid, gid);
      } catch (error) {
        if (codeOf(error) !== "EPERM") throw error; // only root gives files away
      }
      fs.chmodSync(to, mode & 0o7777); // last: a new owner takes some bits away
    } catch (error) {
      throw diskFailure(`Cannot give ${to} the permissions of ${from}`, to, error);
    }
  }

  remove(path: string): void {
    const action = `Cannot remove ${path}`;
    try {
      // The runtime's unlink also removes an empty directory: ask first.
      const found = fs.lstatSync(path, { throwIfNoEntry: false });
      if (found === undefined) return;
      if (found.isDirectory()) throw notAFile(action, path, "directory");
      fs.unlinkSync(path);
    } catch (error) {
      if (error instanceof UsageError) throw error;
      if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return;
      throw diskFailure(action, path, error);
    }
  }

  freeBytes(path: string): number {
    const action = `Cannot ask how much room is left for ${path}`;
    const asked = statusOf(path, action) === undefined ? dirname(path) : path;
    try {
      const { bavail, bsize, blocks } = fs.statfsSync(asked);
      return blocks === 0 ? Infinity : bavail * bsize; // no blocks at all: a file system that does not count them
    } catch (error) {
      throw diskFailure(action, path, error);
    }
  }

  async syncDirectory(directory: string): Promise<void> {
    let descriptor: number;
    try {
      descriptor = fs.openSync(directory, O_RDONLY);
    } catch (error) {
      throw diskFailure(`Cannot open directory ${directory}`, directory, error);
    }
    try {
      await syncDescriptor(descriptor, directory);
    } finally {
      fs.closeSync(descriptor);
    }
  }

  lock(path: string): FileLock {
    const found = statusOf(path, `Cannot lock ${path}`);
    if (found !== undefined && found.kind !== "file") throw notAFile(`Cannot lock ${path}`, path, found.kind);
    return lockFile(path);
  }

  realPath(path: string): string {
    try {
      return fs.realpathSync(path);
    } catch (error) {
      if (codeOf(error) === "ENOENT") return path;
      throw diskFailure(`Cannot follow the links of ${path}`, path, error);
    }
  }

  mark(path: string, use: "followed" | "owned"): FileLock | undefined {
    const action = `Cannot mark ${path}`;
    const found = statusOf(path, action);
    if (found !== undefined && found.kind !== "file") throw notAFile(action, path, found.kind);
    return markFile(path, use);
  }

  watch(directory: string, changed: () => void, prefix = ""): Disposable {
    return watchDirectory(directory, changed, prefix);
  }
}

/**
 * Opens what must be a regular file: that is asked before opening, because opening a pipe would wait for
 * another process, and a device may act on being opened.
 */
function openRegular(path: string, flags: number, action: string): HostFile {
  const found = statusOf(path, action);
  if (found !== undefined && found.kind !== "file") throw notAFile(action, path, found.kind);
  return openDescriptor(path, flags, action);
}

/** A link to nothing takes the path, though there is no file: "it exists already" would puzzle. */
function refuseDangling(path: string, action: string): void {
  if (statusOf(path, action) !== undefined) return;
  let target: string;
  try {
    target = fs.readlinkSync(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR" || codeOf(error) === "EINVAL") return;
    throw diskFailure(action, path, error);
  }
  throw new UsageError(`${action}: it is a link to ${target}, where nothing is`, {
    path,
    hint: "Mount or put back what it leads to, or remove the link",
  });
}

function openDescriptor(path: string, flags: number, action: string): HostFile {
  let descriptor: number | undefined;
  try {
    // Not to wait, should a pipe have taken the file's place since we looked; it means nothing for files.
    descriptor = fs.openSync(path, flags | O_NONBLOCK, 0o666);
    const status = toStatus(fs.fstatSync(descriptor, { bigint: true }));
    if (status.kind !== "file") throw notAFile(action, path, status.kind);
    return new HostFile(path, descriptor, status.identity);
  } catch (error) {
    if (descriptor !== undefined) fs.closeSync(descriptor);
    if (error instanceof UsageError) throw error;
    throw diskFailure(action, path, error);
  }
}

function statusOf(path: string, action: string): FileStatus | undefined {
  try {
    return toStatus(fs.statSync(path, { bigint: true }));
  } catch (error) {
    if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return undefined;
    throw diskFailure(action, path, error);
  }
}

/** Inode numbers of some file systems use all 64 bits, so they never pass through a number. */
function toStatus(stats: fs.BigIntStats): FileStatus {
  return {
    identity: `${stats.dev}:${stats.ino}`,
    kind: stats.isFile() ? "file" : stats.isDirectory() ? "directory" : stats.isSocket() ? "socket" : "other",
    size: Number(stats.size),
    mode: Number(stats.mode & 0o7777n),
  };
}

function notAFile(action: string, path: string, kind: FileStatus["kind"]): UsageError {
  const words = kind === "other" ? "pipe or device" : kind;
  return new UsageError(`${action}: it must be a regular file, and is a ${words}`, {
    path,
    hint: "Name a file",
  });
}
