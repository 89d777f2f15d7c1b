// A client for hubbub in a browser: connections that come back, subscriptions that miss nothing.
//
// The protocol in short. Both sides send JSON over a WebSocket; a message holds one or more texts,
// one a line. The client sends commands, each with an id of its own:
//
//     {"id": 1, "connect": {"token": "…"}}
//     {"id": 2, "subscribe": {"channel": "news", "recover": true, "epoch": "xYzA", "offset": 7}}
//
// The server answers with the same id, and with a result of the command's name or an error:
//
//     {"id": 1, "connect": {"client": "…", "ping": 25, "pong": true}}
//     {"id": 2, "error": {"code": 103, "message": "permission denied"}}
//
// It also speaks unasked: pushes, such as publications, and pings, which are answered alike:
//
//     {"push": {"channel": "news", "pub": {"data": "hello", "offset": 8}}}
//     {}
//
// Three classes: a Link is one WebSocket, with commands and their answers; a Client has one Link
// after the other; a Subscription stays the same over all of them, and remembers its position, by
// which the server knows what it has missed. An underscore marks what they use of each other alone.

const MAX_FRAME = 16_384; // characters of commands in one message, unless one is longer by itself
const MAX_TIMER = 2 ** 31 - 1; // milliseconds; browsers fire later timers at once
const HURRYING = ["online", "pageshow", "visibilitychange"]; // events that end a wait
const VITAL = new Set(["connect", "subscribe", "unsubscribe"]); // must be answered

const TIMEOUT = 1; // of this module; all other codes are the server's
const TOKEN_EXPIRED = 109;
const RESUBSCRIBE = 2500; // an unsubscribe push with this code or above is not final
const STATE_INVALIDATED = 2502;

/**
 * @typedef {{epoch: string, offset: number}} Position
 *     Behind the publication with this offset.
 * @typedef {{user: string, client: string, connInfo: any, chanInfo: any}} Member
 *     A connection of a user.
 * @typedef {{data: any, offset: number, info: ?Member, tags: Object<string, string>}} Publication
 *     `offset`: 0 without history. `info`: who published it, null for the server.
 * @typedef {string | (() => string | Promise<string>)} Token
 *     A function is called whenever one is needed.
 */

/** The server refuses what it was asked for. Code 1: it has not answered in time. */
export class CommandError extends Error {
  name = "CommandError";

  /** @param {number} code @param {string} message @param {boolean} temporary Maybe not later. */
  constructor(code, message, temporary = false) {
    super(message);
    this.code = code;
    this.temporary = temporary;
  }
}

/** The connection ended before the answer: nobody knows whether the command was executed. */
export class ConnectionLost extends Error {
  name = "ConnectionLost";

  /** @param {number} code @param {string} reason */
  constructor(code, reason) {
    super(`connection lost: ${code} ${reason}`);
    this.code = code;
    this.reason = reason;
  }
}

/**
 * A connection to a hub that is made again whenever it breaks.
 *
 * Events, each with a `detail`:
 * - `state`: {state, code, reason, delay}. After a loss the state is "connecting", `code` and
 *   `reason` say what happened, and in `delay` milliseconds there is another attempt.
 * - `error`: the CommandError with which the server has refused the connection.
 */
export class Client extends EventTarget {
  /** @type {"disconnected" | "connecting" | "connected"} */
  state = "disconnected";
  /** Id of the connection, another one after every reconnect; "" unless connected. */
  id = "";
  /** Milliseconds that the server took to answer the connect command. */
  latency = 0;

  _options;
  /** @type {?Link} */
  _link = null;
  /** @type {Map<string, Subscription>} By channel. */
  _subscriptions = new Map();
  #url;
  #calls = new WaitingCalls();
  #attempt = 0; // number of the one that counts
  #failures = 0; // in a row
  #timer = 0; // of the next attempt
  #patient = false; // whether it is not to be hurried
  #stopRenewing = () => {};

  /**
   * @param {string | URL} url Relative to the document; "http:" is taken for "ws:".
   * @param {object} options
   * @param {any} [options.data] For the connect command: JSON, or a function that returns it.
   * @param {Token} [options.token]
   * @param {number} [options.minDelay] Most ms to the first attempt after a loss; then it doubles.
   * @param {number} [options.maxDelay] Most ms to any.
   * @param {number} [options.timeout] Milliseconds to connect, to be answered, for late pings.
   */
  constructor(url, { data, token, minDelay = 500, maxDelay = 20_000, timeout = 5_000 } = {}) {
    super();
    this.#url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this._options = { data, token, minDelay, maxDelay, timeout };
  }

  /** Connect, and stay connected until `disconnect`, or until the server ends it for good. */
  connect() {
    if (this.state !== "disconnected") return;
    for (const event of HURRYING) globalThis.addEventListener?.(event, this.#hurry);
    this.state = "connecting";
    this.#failures = 0;
    this.#open();
    this.#tell(0, "", 0);
  }

  /** End the connection for good; subscriptions wait for `connect`. */
  disconnect() {
    this.#end(0, "disconnect called");
  }

  /** For demonstrations: lose the connection, and stay away for some milliseconds. */
  cut(ms) {
    if (this.state !== "disconnected") this._lose(1006, "cut", ms);
  }

  /** Call a method of the application, once connected. */
  async rpc(method, data) {
    const ask = () => this._link.call("rpc", { method, data });
    const result = await (this.state === "connected" ? ask() : this.#calls.add(ask));
    return result.data ?? null;
  }

  /**
   * Subscribe to a channel, once connected, and again after every reconnect.
   *
   * @param {string} channel
   * @param {object} options
   * @param {boolean} [options.delta] Get patches, where the channel has them: less traffic.
   * @param {boolean} [options.joinLeave] Hear who joins and leaves, where the channel tells.
   * @param {Token} [options.token]
   * @param {any} [options.data] JSON for the subscribe command.
   * @param {Position} [options.since] Begin with what was published after it.
   * @throws {Error} There is a subscription to it already.
   */
  subscribe(channel, options = {}) {
    if (this._subscriptions.has(channel)) throw new Error(`already subscribed to ${channel}`);
    const subscription = new Subscription(this, channel, options);
    this._subscriptions.set(channel, subscription);
    subscription._subscribe();
    return subscription;
  }

  async #open() {
    const attempt = ++this.#attempt;
    clearTimeout(this.#timer);
    this.#timer = 0;
    try {
      const token = await valueOf(this._options.token);
      const data = await valueOf(this._options.data);
      if (attempt !== this.#attempt) return;
      const link = (this._link = new Link(this.#url, this._options.timeout));
      link.onpush = (push) => this._subscriptions.get(push.channel)?._take(push);
      link.onend = (code, reason) => this._lose(code, reason);
      link.ask("connect", { token: token || undefined, data, name: "hubbub.js" }, (error, result) =>
        error ? this.#refused(error) : this.#connected(link, result),
      );
    } catch (error) {
      if (attempt === this.#attempt) this._lose(0, `cannot connect: ${error}`);
      return;
    }
    // In the same message: the server takes what comes after the connect command in order.
    for (const subscription of this._subscriptions.values()) subscription._subscribe();
  }

  #connected(link, { client, ping = 0, pong = false, expires, ttl }) {
    this.state = "connected";
    this.id = client;
    this.latency = performance.now() - link.openedAt;
    this.#failures = 0;
    link.expectPings(ping, pong);
    const send = (token) => link.call("refresh", { token });
    this.#stopRenewing = keepRenewed(this._options.token, { expires, ttl }, send);
    this.#calls.make();
    this.#tell(0, "", 0);
  }

  #refused(error) {
    if (error instanceof ConnectionLost) return; // `onend` says it
    if (mayRetry(error, this._options.token)) this._lose(error.code, error.message);
    else this.#end(error.code, error.message);
    tell(this, "error", error);
  }

  #hurry = () => {
    if (this.#timer && !this.#patient && !globalThis.document?.hidden) this.#open();
  };

  /** Drop the connection, or take note that it is lost, and come back unless told not to. */
  _lose(code, reason, awayFor) {
    if ((code >= 3500 && code < 4000) || (code >= 4500 && code < 5000)) {
      this.#end(code, reason);
      return;
    }
    const delay = awayFor ?? backoff(this.#failures++, this._options);
    this.#leave(code, reason);
    this.state = "connecting";
    this.#patient = awayFor !== undefined;
    this.#timer = setTimeout(() => this.#open(), delay);
    this.#tell(code, reason, delay);
  }

  #end(code, reason) {
    const changed = this.state !== "disconnected";
    for (const event of HURRYING) globalThis.removeEventListener?.(event, this.#hurry);
    this.#leave(code, reason);
    this.state = "disconnected";
    const error = new ConnectionLost(code, reason);
    this.#calls.refuse(error);
    for (const subscription of this._subscriptions.values()) subscription._calls.refuse(error);
    if (changed) this.#tell(code, reason, 0);
  }

  #leave(code, reason) {
    this.#attempt++;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#stopRenewing();
    this.id = "";
    for (const subscription of this._subscriptions.values()) subscription._interrupt();
    const link = this._link;
    this._link = null;
    link?.close(code, reason);
  }

  #tell(code, reason, delay) {
    tell(this, "state", { state: this.state, code, reason, delay });
  }
}

/**
 * An interest in a channel, over all connections of a client: what `Client.subscribe` returns.
 *
 * Events, each with a `detail`:
 * - `subscribed`: {wasRecovering, recovered, missed, position, data}. So many `missed` publications
 *   follow. `wasRecovering` and not `recovered`: some are lost, so read the history or load anew.
 * - `publication`: a Publication, with `recovered`: whether it is one of the missed. Each comes
 *   once, in the order of offsets.
 * - `join`, `leave`: a Member.
 * - `unsubscribed`: {code, reason}, for good.
 */
class Subscription extends EventTarget {
  /** @type {string} */
  channel;
  /** @type {"subscribing" | "subscribed" | "unsubscribed"} */
  state = "subscribing";
  /** @type {?Position} */
  position;

  _calls = new WaitingCalls();
  #client;
  #options;
  #attempt = 0; // number of the subscribe command that counts
  #failures = 0; // in a row
  #timer = 0; // of the next attempt
  #stopRenewing = () => {};
  #wantsPatches;
  #quoted = false; // whether payloads are texts in a string: JSON, or a patch
  /** @type {?Uint8Array} What a patch is applied to. */
  #base = null;
  /** @type {?CommandError} Why it is unsubscribed. */
  #ending = null;

  constructor(client, channel, options) {
    super();
    this.#client = client;
    this.#options = options;
    this.#wantsPatches = options.delta ?? false;
    this.channel = channel;
    this.position = options.since ?? null;
  }

  /** Publish, once subscribed. */
  async publish(data) {
    await this.#call("publish", { data });
  }

  /**
   * Read the history, once subscribed: what comes after `since`, or with `reverse` what comes
   * before it, newest first; all that the server gives at once, unless `limit` is less. `epoch`
   * and `offset` are the position of the newest publication ever.
   *
   * @param {{limit?: number, since?: Position, reverse?: boolean}} options
   * @returns {Promise<{publications: Publication[], epoch: string, offset: number}>}
   */
  async history({ limit = -1, since, reverse } = {}) {
    const result = await this.#call("history", { limit, since, reverse });
    return { ...result, publications: result.publications.map(publicationOf) };
  }

  /** Ask who is subscribed. @returns {Promise<Member[]>} */
  async presence() {
    return Object.values((await this.#call("presence", {})).presence).map(memberOf);
  }

  /** Ask how many are subscribed. @returns {Promise<{clients: number, users: number}>} */
  async presenceStats() {
    const result = await this.#call("presence_stats", {});
    return { clients: result.num_clients, users: result.num_users };
  }

  /** Lose interest, for good. */
  unsubscribe() {
    if (this.state === "unsubscribed") return;
    this.#leave();
    this.#end(0, "unsubscribed");
  }

  #call(command, request) {
    if (this.state === "unsubscribed") return Promise.reject(this.#ending);
    const ask = () => this.#client._link.call(command, { channel: this.channel, ...request });
    return this.state === "subscribed" ? ask() : this._calls.add(ask);
  }

  /** Ask the server for what comes after the last position, if there is a connection. */
  async _subscribe() {
    const link = this.#client._link;
    if (!link) return;
    const attempt = ++this.#attempt;
    let token;
    try {
      token = await valueOf(this.#options.token);
    } catch {
      if (attempt === this.#attempt) this.#retry();
      return;
    }
    if (attempt !== this.#attempt) return;
    const request = {
      channel: this.channel,
      token: token || undefined,
      data: this.#options.data,
      join_leave: this.#options.joinLeave,
      delta: this.#wantsPatches ? "fossil" : undefined,
      positioned: true,
      recoverable: true,
      ...(this.position && { recover: true, ...this.position }),
    };
    link.ask("subscribe", request, (error, result) => {
      if (attempt !== this.#attempt || error instanceof ConnectionLost) return;
      if (!error) this.#subscribed(link, result);
      else if (mayRetry(error, this.#options.token)) this.#retry();
      else this.#end(error.code, error.message);
    });
  }

  #retry() {
    const delay = backoff(this.#failures++, this.#client._options);
    this.#timer = setTimeout(() => this._subscribe(), delay);
  }

  #subscribed(link, result) {
    const { publications = [], epoch, offset = 0 } = result;
    // Until the missed publications are handed out, the position is the one before them.
    const start = publications.length ? publications[0].offset - 1 : offset;
    this.position = result.positioned ? { epoch, offset: start } : null;
    this.state = "subscribed";
    this.#failures = 0;
    this.#quoted = result.delta ?? false;
    const send = (token) => link.call("sub_refresh", { channel: this.channel, token });
    this.#stopRenewing = keepRenewed(this.#options.token, result, send);
    this._calls.make();
    const attempt = this.#attempt;
    tell(this, "subscribed", {
      wasRecovering: result.was_recovering ?? false,
      recovered: result.recovered ?? false,
      missed: publications.length,
      position: this.position,
      data: result.data ?? null,
    });
    for (const publication of publications) {
      if (attempt !== this.#attempt) return; // a listener has ended it
      this.#publication(publication, true);
    }
  }

  /** Take a push. */
  _take({ pub, join, leave, unsubscribe }) {
    if (this.state !== "subscribed") return; // it was on its way when we left
    if (pub) this.#publication(pub, false);
    else if (join) tell(this, "join", memberOf(join.info));
    else if (leave) tell(this, "leave", memberOf(leave.info));
    else if (unsubscribe) this.#unsubscribed(unsubscribe);
  }

  #publication(publication, recovered) {
    let { data } = publication;
    if (this.#quoted) {
      try {
        const bytes = ENCODER.encode(data);
        this.#base = publication.delta ? applyPatch(this.#base, bytes) : bytes;
        data = JSON.parse(DECODER.decode(this.#base));
      } catch {
        // A patch of something else: ask again from the last position, for whole payloads.
        this.#wantsPatches = false;
        this.#leave();
        this._subscribe();
        return;
      }
    }
    if (publication.offset && this.position) {
      this.position = { epoch: this.position.epoch, offset: publication.offset };
    }
    tell(this, "publication", { ...publicationOf(publication), data, recovered });
  }

  #unsubscribed({ code, reason }) {
    this._interrupt();
    if (code < RESUBSCRIBE) {
      this.#end(code, reason);
      return;
    }
    // A position that no server has: the application is told that nothing was recovered.
    if (code === STATE_INVALIDATED) this.position = { epoch: "_", offset: 0 };
    this._subscribe();
  }

  /** Have the server end the subscription. */
  #leave() {
    this._interrupt();
    this.#client._link?.ask("unsubscribe", { channel: this.channel }, (error) => {
      if (error instanceof CommandError) this.#client._lose(error.code, error.message);
    });
  }

  /** Take note that the server has no subscription any more. */
  _interrupt() {
    this.#attempt++;
    clearTimeout(this.#timer);
    this.#stopRenewing();
    this.state = "subscribing";
  }

  #end(code, reason) {
    this.state = "unsubscribed";
    this.#ending = new CommandError(code, reason);
    this.#client._subscriptions.delete(this.channel);
    this._calls.refuse(this.#ending);
    tell(this, "unsubscribed", { code, reason });
  }
}

/** One WebSocket: it sends commands, and gives each its answer. */
class Link {
  onpush = (push) => {};
  onend = (code, reason) => {};
  openedAt = 0;
  #socket;
  #timeout;
  #outgoing = []; // texts of this turn; while the socket opens, all
  #pending = new Map(); // commands without an answer, by id
  #lastId = 0;
  #heardAt = 0;
  #pongs = false;
  #pingTimer = 0;
  #closed = false;

  constructor(url, timeout) {
    this.#timeout = timeout;
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => {
      this.openedAt = performance.now();
      this.#flush();
    };
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
  }

  /** Send a command. `done` is called once: with an error, or with null and the result. */
  ask(command, request, done) {
    const id = ++this.#lastId;
    this.#send(JSON.stringify({ id, [command]: request }));
    const timer = setTimeout(() => {
      if (VITAL.has(command)) {
        this.#end(TIMEOUT, `${command} timeout`);
      } else {
        this.#pending.delete(id);
        done(new CommandError(TIMEOUT, "timeout", true));
      }
    }, this.#timeout);
    this.#pending.set(id, { command, timer, done });
  }

  /** Send a command, and promise the result. */
  call(command, request) {
    return new Promise((resolve, reject) =>
      this.ask(command, request, (error, result) => (error ? reject(error) : resolve(result))),
    );
  }

  /** End when the server, which pings every so many seconds, is silent for longer. */
  expectPings(seconds, pongs) {
    this.#pongs = pongs;
    const check = () => {
      const left = this.#heardAt + seconds * 1000 + this.#timeout - performance.now();
      if (left > 0) this.#pingTimer = setTimeout(check, left);
      else this.#end(0, "no ping");
    };
    if (seconds) check();
  }

  /** Close without `onend`; what has no answer is lost. */
  close(code, reason) {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#pingTimer);
    const socket = this.#socket;
    socket.onmessage = socket.onclose = null;
    // Browsers complain in the console of a socket that is closed before it is open.
    if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
    else socket.close();
    for (const { timer, done } of this.#pending.values()) {
      clearTimeout(timer);
      done(new ConnectionLost(code, reason));
    }
  }

  #end(code, reason) {
    if (this.#closed) return;
    this.close(code, reason);
    this.onend(code, reason);
  }

  #send(text) {
    this.#outgoing.push(text);
    if (this.#outgoing.length === 1) queueMicrotask(() => this.#flush());
  }

  #flush() {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const frames = [];
    for (const text of this.#outgoing.splice(0)) {
      const last = frames.at(-1);
      if (!last || last.length + text.length >= MAX_FRAME) frames.push(text);
      else frames[frames.length - 1] = `${last}\n${text}`;
    }
    for (const frame of frames) this.#socket.send(frame);
  }

  #receive(data) {
    this.#heardAt = performance.now();
    try {
      for (const line of data.split("\n")) {
        if (this.#closed) return;
        this.#take(JSON.parse(line));
      }
    } catch (error) {
      this.#end(0, `not understood: ${error}`);
    }
  }

  #take(reply) {
    if (reply.id) {
      const pending = this.#pending.get(reply.id);
      if (!pending) return; // it came too late
      const { command, timer, done } = pending;
      const { error } = reply;
      this.#pending.delete(reply.id);
      clearTimeout(timer);
      if (error) done(new CommandError(error.code, error.message, error.temporary));
      else done(null, reply[command]);
    } else if (reply.push) {
      this.onpush(reply.push);
    } else if (this.#pongs) {
      this.#send("{}");
    }
  }
}

/** Calls that wait for a connection or a subscription, in order. */
class WaitingCalls {
  #waiting = [];

  add(call) {
    return new Promise((resolve, reject) => this.#waiting.push({ call, resolve, reject }));
  }

  make() {
    for (const { call, resolve } of this.#waiting.splice(0)) resolve(call());
  }

  refuse(error) {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}

/** Get another token whenever the last one expires, and send it; return what stops that. */
function keepRenewed(token, result, send) {
  let timer = 0;
  let stopped = false;
  const plan = ({ expires, ttl }) => {
    if (!expires || stopped || typeof token !== "function") return;
    timer = setTimeout(renew, Math.min(ttl * 1000, MAX_TIMER));
  };
  const renew = async () => {
    try {
      const fresh = await token();
      if (!fresh) throw new Error("no token");
      if (!stopped) plan(await send(fresh));
    } catch {
      plan({ expires: true, ttl: 5 + 5 * Math.random() }); // servers wait 25 seconds
    }
  };
  plan(result);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/** Any delay up to a bound that doubles: those whom one failure hit do not come back at once. */
function backoff(failures, { minDelay, maxDelay }) {
  return Math.random() * Math.min(maxDelay, minDelay * 2 ** failures);
}

function mayRetry(error, token) {
  return error.temporary || (error.code === TOKEN_EXPIRED && typeof token === "function");
}

function valueOf(option) {
  return typeof option === "function" ? option() : option;
}

function tell(target, event, detail) {
  target.dispatchEvent(new CustomEvent(event, { detail }));
}

function memberOf({ user, client, conn_info: connInfo = null, chan_info: chanInfo = null }) {
  return { user, client, connInfo, chanInfo };
}

function publicationOf({ data, offset = 0, info, tags = {} }) {
  return { data, offset, info: info ? memberOf(info) : null, tags };
}

// Patches are in the Fossil delta format. It counts bytes of UTF-8, and its integers have base 64:
//
//     patch   = int(length of the target) LF *segment int(checksum of the target) ";"
//     segment = int(n) "@" int(start) ","     copy n bytes of the base
//             | int(n) ":" n bytes            insert these

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();
const DIGITS = ENCODER.encode("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~");
const VALUES = new Map([...DIGITS].map((digit, value) => [digit, value]));
const [LF, AT, COLON, COMMA, SEMICOLON] = ENCODER.encode("\n@:,;");

/**
 * Make the target of a base and a patch, both bytes.
 *
 * @throws {Error} The patch is malformed, or one of another base.
 */
function applyPatch(base, patch) {
  let at = 0;
  const readInt = () => {
    let value = 0;
    for (; VALUES.has(patch[at]); at++) value = value * 64 + VALUES.get(patch[at]);
    return value;
  };
  const expect = (isFine) => {
    if (!isFine) throw new RangeError(`bad patch, at byte ${at}`);
  };
  const target = new Uint8Array(readInt());
  let length = 0;
  expect(patch[at++] === LF);
  for (;;) {
    const count = readInt();
    const kind = patch[at++];
    let source = patch;
    let start = at;
    if (kind === SEMICOLON) {
      expect(length === target.length && count === checksum(target));
      return target;
    }
    if (kind === AT) {
      source = base;
      start = readInt();
      expect(patch[at++] === COMMA);
    } else {
      expect(kind === COLON);
      at += count;
    }
    expect(start + count <= source.length && length + count <= target.length);
    target.set(source.subarray(start, start + count), length);
    length += count;
  }
}

/** Add up the big-endian 32-bit words, the last one filled up with zeros. */
function checksum(bytes) {
  let sum = 0;
  bytes.forEach((byte, at) => (sum = (sum + (byte << (24 - 8 * (at % 4)))) >>> 0));
  return sum;
}
