/** Following a file on a real disk while real ZODB writes, packs, and dies. */
import assert from "node:assert/strict";
import { type Change, FollowedFile } from "../../lib/filestorage/mod.ts";
import { HostDisk } from "../../lib/host/disk.ts";
import { formatTid } from "../../lib/zodb/mod.ts";
import type { EnvironmentName } from "../kit/environments.ts";
import { type LogEnd, peerTest, ZodbWriter } from "../kit/peers.ts";
import { TempDirectory } from "../kit/temp.ts";

const RECORD = { oid: "00000000000000aa", text: "held" };

async function kinds(file: FollowedFile): Promise<Change["kind"][]> {
  return (await file.refresh()).map(({ kind }) => kind);
}

function assertSees(file: FollowedFile, end: LogEnd): void {
  assert.equal(formatTid(file.view.lastTid), end.tid);
  assert.equal(file.view.end, end.size);
}

for (const environment of ["zodb55", "zodb6"] satisfies EnvironmentName[]) {
  peerTest(`a file is followed while ${environment} writes it`, [environment], async () => {
    await using directory = await TempDirectory.make();
    const path = directory.join("Data.fs");
    const start = () => ZodbWriter.start(environment, { path });
    await using writer = await start();
    const file = await FollowedFile.open(new HostDisk(), path, () => Promise.resolve());
    let end = await writer.commitMany({ count: 20, size: 100 });
    assert.deepEqual(await kinds(file), ["grown"]);
    assertSees(file, end);

    await writer.hold({ records: [RECORD] });
    assert.deepEqual(await kinds(file), []);
    assertSees(file, end);
    await writer.abortHeld();
    assert.deepEqual(await kinds(file), []);
    await writer.hold({ records: [RECORD] });
    assert.deepEqual(await kinds(file), []);
    end = await writer.finishHeld();
    assert.deepEqual(await kinds(file), ["grown"]);
    assertSees(file, end);

    for (const keepOld of [true, false]) {
      await writer.commitMany({ count: 5, size: 50 });
      end = await writer.pack({ keepOld });
      assert.deepEqual(await kinds(file), ["grown", "replaced"]);
      assertSees(file, end);
      end = await writer.commitMany({ count: 5, size: 60 });
      assert.deepEqual(await kinds(file), ["grown"]);
      assertSees(file, end);
    }

    // The writer dies in the middle of a commit; the next one cuts what it left.
    await writer.hold({ records: [RECORD] });
    await writer.kill();
    assert.deepEqual(await kinds(file), []);
    const opened = await FollowedFile.open(new HostDisk(), path, () => Promise.resolve());
    assertSees(opened, end);
    opened.close();
    await using next = await start();
    assert.deepEqual(await kinds(file), []);
    end = await next.commitMany({ count: 1, size: 10 });
    assert.deepEqual(await kinds(file), ["grown"]);
    assertSees(file, end);
    file.close();
  });
}
