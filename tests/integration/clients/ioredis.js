// ioredis against a server: PORT. Prints "ok <what>" a line; "restart" asks for a restart.
"use strict";
const assert = require("node:assert");
const Redis = require("ioredis");
const { say, restarted } = require("./talk.js");

async function main() {
  const port = Number(process.env.PORT);
  const options = { port, lazyConnect: true, retryStrategy: () => 50, maxRetriesPerRequest: null };
  const redis = new Redis(options);
  redis.on("error", () => {});
  await redis.connect();
  assert.equal(redis.status, "ready");
  say("ready");

  assert.equal(await redis.set("io/a", "1"), "OK");
  assert.equal(await redis.get("io/a"), "1");
  assert.equal(await redis.get("io/none"), null);
  await assert.rejects(redis.incr("io/b", "x"), /wrong number of arguments/);
  say("set and get");

  assert.deepEqual(await redis.multi().set("io/m", "1").incr("io/m").get("io/m").exec(),
    [[null, "OK"], [null, 2], [null, "2"]]);
  await redis.watch("io/m");
  const other = new Redis(options);
  other.on("error", () => {});
  await other.connect();
  await other.set("io/m", "9");
  assert.equal(await redis.multi().set("io/m", "3").exec(), null);
  say("multi");

  const pipeline = redis.pipeline();
  for (let i = 0; i < 1000; i++) pipeline.set(`io/p${i}`, i);
  for (let i = 0; i < 1000; i++) pipeline.get(`io/p${i}`);
  const answers = await pipeline.exec();
  for (let i = 0; i < 1000; i++) assert.deepEqual(answers[1000 + i], [null, String(i)]);
  say("pipeline");

  const seen = new Set();
  for await (const keys of redis.scanStream({ match: "io/p*", count: 100 })) keys.forEach((key) => seen.add(key));
  assert.equal(seen.size, 1000);
  say("scan");

  const subscriber = new Redis(options);
  subscriber.on("error", () => {});
  await subscriber.connect();
  const message = new Promise((resolve) => subscriber.once("message", (channel, text) => resolve([channel, text])));
  assert.equal(await subscriber.subscribe("io/channel"), 1);
  assert.equal(await redis.publish("io/channel", "hello"), 1);
  assert.deepEqual(await message, ["io/channel", "hello"]);
  say("pub/sub");

  const revision = await redis.call("KV", "REVISION");
  const blocked = other.xread("BLOCK", 10000, "STREAMS", "__watch__:io/", "$");
  await new Promise((resolve) => setTimeout(resolve, 50));
  await redis.set("io/a", "watched");
  const [[stream, [[id, fields]]]] = await blocked;
  assert.equal(stream, "__watch__:io/");
  assert.equal(id, `${revision + 1}-1`);
  assert.equal(fields[fields.indexOf("value") + 1], "watched");
  say("watch");

  await restarted();
  assert.equal(await redis.get("io/a"), "watched");
  assert.equal(await redis.incr("io/m"), 10);
  const again = new Promise((resolve) => subscriber.once("message", (channel, text) => resolve(text)));
  while (await redis.publish("io/channel", "again") === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(await again, "again");
  say("reconnect");
  for (const client of [redis, other, subscriber]) await client.quit();
}

main().then(() => say("end"), (error) => { console.log(`failed ${error.stack}`); process.exit(1); });
