// The JavaScript SDK on a lead, for sdks.py: what to do as lines of JSON on the standard input, what
// it led to as lines of JSON on the standard output.
//
//   in   {"id": 1, "client": 1, "do": "publish", "channel": "news", "data": {"n": 1}}
//   out  {"id": 1, "result": null}  or  {"id": 1, "error": {"code": 103, "message": "..."}}
//   out  {"client": 1, "event": "publication", "channel": "news", "data": {"n": 1}, "offset": 1}
//
// Payloads are JSON here whatever the wire format: with Protobuf they travel as the text's bytes.
import { Centrifuge as Json } from "centrifuge";
import { Centrifuge as Protobuf } from "centrifuge/build/protobuf";
import { createInterface } from "node:readline";
import WebSocket from "ws";

const write = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const clients = new Map();

const plain = (value) => {
  // An absent payload is an empty one in Protobuf.
  if (value instanceof Uint8Array) return value.length ? JSON.parse(Buffer.from(value)) : null;
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") {
    if (typeof value.toNumber === "function") return value.toNumber();
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
  }
  return value;
};
const whose = (info) => info && { client: info.client, user: info.user, ...given(info) };
const given = ({ connInfo, chanInfo }) => ({
  conn_info: plain(connInfo) ?? null,
  chan_info: plain(chanInfo) ?? null,
});
const published = ({ data, offset, tags, info }) => ({
  data: plain(data),
  offset: plain(offset) ?? 0,
  tags: tags ?? {},
  info: whose(info) ?? null,
});
const failed = (error) => ({ code: error?.code ?? 0, message: error?.message ?? String(error) });

const EVENTS = {
  connecting: ({ code, reason }) => ({ code, reason }),
  connected: ({ client, data }) => ({ id: client, data: plain(data) ?? null }),
  disconnected: ({ code, reason }) => ({ code, reason }),
  message: ({ data }) => ({ data: plain(data) }),
  error: ({ error }) => failed(error),
  subscribing: ({ code, reason }) => ({ code, reason }),
  subscribed: (ctx) => ({
    recoverable: ctx.recoverable,
    positioned: ctx.positioned,
    was_recovering: ctx.wasRecovering,
    recovered: ctx.recovered,
    position: ctx.streamPosition
      ? [ctx.streamPosition.epoch, plain(ctx.streamPosition.offset) ?? 0]
      : null,
    data: plain(ctx.data) ?? null,
  }),
  unsubscribed: ({ code, reason }) => ({ code, reason }),
  publication: published,
  join: ({ info }) => ({ info: whose(info) }),
  leave: ({ info }) => ({ info: whose(info) }),
};
const OF_CLIENT = ["connecting", "connected", "disconnected", "message", "error"];
const OF_CHANNEL = Object.keys(EVENTS).filter((name) => !OF_CLIENT.includes(name));

class Client {
  constructor(number, { url, protobuf, token, tokens, timeout }) {
    this.number = number;
    this.encode = protobuf ? (data) => Buffer.from(JSON.stringify(data)) : (data) => data;
    this.sdk = new (protobuf ? Protobuf : Json)(url, {
      websocket: WebSocket,
      token: token ?? "",
      getToken: tokens ? this.giving(tokens, "get_token", "") : null,
      minReconnectDelay: 1,
      maxReconnectDelay: 50,
      timeout,
    });
    for (const name of OF_CLIENT) {
      this.sdk.on(name, (ctx) => this.tell(name, "", EVENTS[name](ctx)));
    }
    for (const name of OF_CHANNEL) {
      this.sdk.on(name, (ctx) => this.tell("server_" + name, ctx.channel, EVENTS[name](ctx)));
    }
  }

  tell(event, channel, rest) {
    write({ client: this.number, event, channel, ...rest });
  }

  // A function for the SDK that returns one value after the other, and tells of it.
  giving(values, event, channel) {
    return async () => {
      this.tell(event, channel, {});
      if (!values.length) throw new this.sdk.constructor.UnauthorizedError("no more");
      return values.shift();
    };
  }

  subscription({ channel, tokens, states, tags_filter, join_leave, ...rest }) {
    const options = { minResubscribeDelay: 1, maxResubscribeDelay: 50, ...rest };
    if (tags_filter) options.tagsFilter = tags_filter;
    if (join_leave) options.joinLeave = join_leave;
    if (tokens) options.getToken = this.giving(tokens, "get_token", channel);
    if (states) options.getState = this.giving(states, "get_state", channel);
    const subscription = this.sdk.newSubscription(channel, options);
    for (const name of ["error", ...OF_CHANNEL]) {
      subscription.on(name, (ctx) => this.tell(name, channel, EVENTS[name](ctx)));
    }
  }

  connect() {
    this.sdk.connect();
  }

  disconnect() {
    this.sdk.disconnect();
  }

  state() {
    return this.sdk.state;
  }

  subscribe({ channel }) {
    this.sdk.getSubscription(channel).subscribe();
  }

  unsubscribe({ channel }) {
    this.sdk.getSubscription(channel).unsubscribe();
  }

  // Subscribe and unsubscribe, waiting for nothing, and subscribe in the end.
  flicker({ channel, times }) {
    const subscription = this.sdk.getSubscription(channel);
    for (let n = 0; n < times; n++) {
      subscription.subscribe();
      subscription.unsubscribe();
    }
    subscription.subscribe();
  }

  async ready({ channel }) {
    await this.sdk.getSubscription(channel).ready();
  }

  async publish({ channel, data }) {
    await this.sdk.publish(channel, this.encode(data));
  }

  // Publish several payloads without waiting; the SDK sends them in one frame.
  async burst({ channel, data }) {
    this.sdk.startBatching();
    const answers = data.map((one) => this.publish({ channel, data: one }));
    this.sdk.stopBatching();
    await Promise.all(answers);
  }

  async history({ channel, ...options }) {
    const { publications, epoch, offset } = await this.sdk.history(channel, options);
    return { publications: publications.map(published), position: [epoch, plain(offset)] };
  }

  async presence({ channel }) {
    const { clients } = await this.sdk.presence(channel);
    return Object.fromEntries(Object.entries(clients).map(([id, info]) => [id, whose(info)]));
  }

  async presence_stats({ channel }) {
    const { numClients, numUsers } = await this.sdk.presenceStats(channel);
    return { clients: numClients, users: numUsers };
  }

  async rpc({ method, data }) {
    return plain((await this.sdk.rpc(method, this.encode(data))).data);
  }

  async send({ data }) {
    await this.sdk.send(this.encode(data));
  }

  deltas({ channel }) {
    const { numFullPayloads, numDeltaPayloads } = this.sdk.getSubscription(channel).deltaStats();
    return [numFullPayloads, numDeltaPayloads];
  }
}

// An error that the SDK throws fails the test that is on, not those that follow.
process.on("uncaughtException", (error) => console.error(error));

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, client, do: what, ...rest } = JSON.parse(line);
  try {
    if (what === "open") clients.set(client, new Client(client, rest));
    const result = what === "open" ? null : await clients.get(client)[what](rest);
    write({ id, result: result ?? null });
  } catch (error) {
    write({ id, error: failed(error) });
  }
});
