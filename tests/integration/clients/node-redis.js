// node-redis against a server: PORT, PROTO (2 or 3). As ioredis.js.
"use strict";
const assert = require("node:assert");
const { createClient } = require("redis");
const { say, restarted } = require("./talk.js");

async function main() {
  const RESP = Number(process.env.PROTO || 2);
  const options = { RESP, unstableResp3: true, socket: { port: Number(process.env.PORT), reconnectStrategy: () => 50 } };
  const client = createClient(options);
  client.on("error", () => {});
  await client.connect();
  assert.ok(client.isReady);
  say("ready");

  assert.equal(await client.set("nr/a", "1"), "OK");
  assert.equal(await client.get("nr/a"), "1");
  assert.equal(await client.get("nr/none"), null);
  await assert.rejects(client.sendCommand(["INCR"]), /wrong number of arguments/);
  say("set and get");

  assert.deepEqual(await client.multi().set("nr/m", "1").incr("nr/m").get("nr/m").exec(), ["OK", 2, "2"]);
  say("multi");

  const sets = [];
  for (let i = 0; i < 1000; i++) sets.push(client.set(`nr/p${i}`, String(i)));
  await Promise.all(sets);
  const gets = await Promise.all(sets.map((_, i) => client.get(`nr/p${i}`)));
  gets.forEach((value, i) => assert.equal(value, String(i)));
  say("pipeline");

  const seen = new Set();
  for await (const keys of client.scanIterator({ MATCH: "nr/p*", COUNT: 100 })) keys.forEach((key) => seen.add(key));
  assert.equal(seen.size, 1000);
  say("scan");

  const subscriber = client.duplicate();
  subscriber.on("error", () => {});
  await subscriber.connect();
  const messages = [];
  let wake = () => {};
  await subscriber.subscribe("nr/channel", (text) => { messages.push(text); wake(); });
  const until = async (text) => {
    while (!messages.includes(text)) await new Promise((resolve) => { wake = resolve; });
  };
  assert.equal(await client.publish("nr/channel", "hello"), 1);
  await until("hello");
  say("pub/sub");

  const revision = await client.sendCommand(["KV", "REVISION"]);
  const reader = client.duplicate();
  reader.on("error", () => {});
  await reader.connect();
  const blocked = reader.sendCommand(["XREAD", "BLOCK", "10000", "STREAMS", "__watch__:nr/", "$"]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await client.set("nr/a", "watched");
  const got = JSON.stringify(await blocked);
  assert.ok(got.includes(`${revision + 1}-1`) && got.includes("watched"), got);
  say("watch");

  await restarted();
  assert.equal(await client.get("nr/a"), "watched");
  assert.equal(await client.incr("nr/m"), 3);
  while (await client.publish("nr/channel", "again") === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  await until("again");
  say("reconnect");
  for (const one of [client, subscriber, reader]) await one.close();
}

main().then(() => say("end"), (error) => { console.log(`failed ${error.stack}`); process.exit(1); });
