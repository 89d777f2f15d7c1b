// The codecs of the JavaScript SDK, for test_javascript.py: one JSON array of jobs on the standard
// input, one array of answers on the standard output. Bytes travel as base64.
import { Centrifuge as Json } from "centrifuge";
import { Centrifuge as Protobuf } from "centrifuge/build/protobuf";
import { readFileSync } from "node:fs";

const json = new Json("ws://localhost")._codec;
const protobuf = new Protobuf("ws://localhost")._codec;

const toBytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const toText = (bytes) => Buffer.from(bytes).toString("base64");

// Members that are bytes in Protobuf are given as {"$bytes": base64} and returned so.
const revive = (key, value) => (value && value.$bytes !== undefined ? toBytes(value.$bytes) : value);
const plain = (value) => {
  if (value instanceof Uint8Array) return { $bytes: toText(value) };
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") {
    if (typeof value.toNumber === "function") return value.toNumber();
    const found = Object.keys(value).map((key) => [key, plain(value[key])]);
    return Object.fromEntries(found);
  }
  return value;
};

const jobs = {
  encode_json: ({ commands }) => toText(Buffer.from(json.encodeCommands(commands))),
  decode_json: ({ frame }) => json.decodeReplies(Buffer.from(frame, "base64").toString()),
  encode_protobuf: ({ commands }) => toText(protobuf.encodeCommands(commands)),
  decode_protobuf: ({ frame }) => plain(protobuf.decodeReplies(toBytes(frame))),
  delta_json: ({ base, data }) =>
    toText(json.applyDeltaIfNeeded({ delta: true, data }, toBytes(base)).newPrevValue),
  delta_protobuf: ({ base, data }) =>
    toText(protobuf.applyDeltaIfNeeded({ delta: true, data: toBytes(data) }, toBytes(base)).newData),
};

const input = JSON.parse(readFileSync(0, "utf8"), revive);
process.stdout.write(JSON.stringify(input.map((job) => jobs[job.job](job))));
