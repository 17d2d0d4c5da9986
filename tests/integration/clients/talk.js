// How a client's script talks with test_clients.py: lines out, a line in when the server is back.
"use strict";

exports.say = (what) => console.log(`ok ${what}`);

exports.restarted = () => new Promise((resolve) => {
  process.stdin.once("data", () => { process.stdin.pause(); process.stdin.unref?.(); resolve(); });
  console.log("restart");
});
