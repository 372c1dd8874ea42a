/** Asking a source how far a database has the same history, for `zrs rewind --from`. */

import { DivergedError } from "../errors.ts";
import { Generation, type History } from "../filestorage/mod.ts";
import type { Host } from "../host/mod.ts";
import { type Address, formatAddress } from "../ports/mod.ts";
import { networkSource, queryLineage } from "../replica/mod.ts";
import { describeTid, NO_TID } from "../zodb/mod.ts";
import { AuthFile } from "./auth_file.ts";
import type { TlsOptions } from "./options.ts";
import { networkFor } from "./secure_network.ts";
import { SOFTWARE } from "./version.ts";

/**
 * Asks, and shows the answer.
 * @returns the last transaction that both have; undefined when the source would go on behind the database's last
 * @throws DivergedError where both have none; UsageError about the files of TLS and the secret; as `queryLineage`
 */
export async function askSource(
  source: Address,
  history: History,
  security: TlsOptions & { readonly authFile?: string | undefined },
  host: Host,
): Promise<bigint | undefined> {
  const { path, file, end, lastTid } = history;
  const { disk, clock, random } = host;
  const network = await networkFor(security, host);
  const secret = security.authFile === undefined ? undefined : AuthFile.open(disk, security.authFile);
  for (const warning of secret?.warnings ?? []) host.err(`${warning}\n`);
  const view = { generation: new Generation(0, file), end, lastTid };
  const verdict = await queryLineage({ clock, random }, networkSource({ network }, source), view, {
    software: SOFTWARE,
    secret,
    hint: "If it is zc.zrs, find the last common transaction by zrs log, and give it with --to",
  });
  const name = formatAddress(source);
  if (verdict.kind === "welcome") {
    if (verdict.notice !== undefined) host.out(`${name} says: ${verdict.notice}\n`);
    const end = lastTid === NO_TID ? "has no transactions" : `ends with ${describeTid(lastTid)}`;
    host.out(`${path} ${end}, and ${name} would go on behind that: there is nothing to take back\n`);
    return undefined;
  }
  const { message, common, isExact } = verdict.refusal;
  if (common === undefined) {
    throw new DivergedError(
      `Cannot rewind ${path} to what it has in common with ${name}: there is no such transaction, and all would ` +
        `go. ${name} says: ${message}`,
      { path, hint: "If that is what you want, give --to 0 in place of --from" },
    );
  }
  host.out(`${name} says: ${message}\n`);
  if (!isExact) {
    host.out(
      `Whether later transactions are common too is not known: packs have removed what would tell\n`,
    );
  }
  return common;
}
