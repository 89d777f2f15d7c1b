/** A room that one is in: what is said, who is here, who is typing, and one's own words on their way. */

import { CommandError, ConnectionLost } from "./hubbub.js";
import { Log } from "./log.js";

const TYPING = 4_000; // ms that a sign of typing counts
const TYPING_AGAIN = 2_000; // ms between two of them
const PATIENCE = 1_000; // ms before asking again what was refused for now

/** Events: `change`, look again; `refused`, a message, with its text; `end`, no more of this room. */
export class Room extends EventTarget {
  /** Why the last message is not on its way; "" if it is. */
  problem = "";
  #client;
  #chat;
  #typing;
  #members = new Map(); // by the id of the connection
  #turnover = null; // joins and leaves while the members are read
  #typers = new Map(); // by the id of the connection: name and timer
  #toldAt = -TYPING_AGAIN; // when the others last heard that we are typing
  #waiting = []; // own messages that are not published as far as we know
  #delivering = false;
  #settled = false; // subscribed, and all that was missed is shown
  #loaded = false;
  #early = null; // publications that came while the history was read
  #lost = false; // whether the connection broke, rather than being ended by us
  #missed = { left: 0, all: 0 };
  #left = false;
  #listening = new AbortController();

  /**
   * @param {Client} client
   * @param {string} name
   * @param {() => string} me the own name
   */
  constructor(client, name, me) {
    super();
    this.name = name;
    this.me = me;
    this.log = new Log(`Messages in ${name}`);
    this.#client = client;
    const options = { signal: this.#listening.signal };
    client.addEventListener("state", ({ detail }) => this.#connection(detail), options);
    this.#chat = client.subscribe(`chat:${name}`);
    this.#chat.addEventListener("subscribed", ({ detail }) => this.#enter(detail));
    this.#chat.addEventListener("publication", ({ detail }) => this.#publication(detail));
    for (const event of ["join", "leave"]) {
      this.#chat.addEventListener(event, ({ detail }) => this.#turn(event, detail));
    }
    this.#chat.addEventListener("unsubscribed", ({ detail }) => this.#end(detail.reason));
    this.#listen();
  }

  /** Names of who is here, in alphabetical order, and how many connections each has. */
  get members() {
    const names = new Map();
    for (const name of [...this.#members.values()].sort((a, b) => a.localeCompare(b))) {
      names.set(name, (names.get(name) ?? 0) + 1);
    }
    return names;
  }

  /** Names of who is typing. */
  get typers() {
    return [...new Set([...this.#typers.values()].map(({ name }) => name))];
  }

  /** Say something: now, or as soon as there is a connection. */
  say(text) {
    const bytes = crypto.getRandomValues(new Uint8Array(12));
    const id = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    this.#waiting.push({ id, text, sent: false });
    this.log.hold({ id, name: this.me(), text, time: Date.now() / 1000 });
    this.#toldAt = -TYPING_AGAIN;
    this.#deliver();
  }

  /** Let the others know that we are typing. */
  type() {
    const now = performance.now();
    if (this.#typing.state !== "subscribed" || now - this.#toldAt < TYPING_AGAIN) return;
    this.#toldAt = now;
    this.#typing.publish({}).catch(() => {}); // the next key press is another chance
  }

  /** Leave the room, once everything we said has arrived. */
  leave() {
    this.#left = true;
    this.#typing.unsubscribe();
    this.#closeIfDone();
  }

  /** Come back to a room that was left and has not ended yet. */
  comeBack() {
    if (!this.#left) return;
    this.#left = false;
    this.#listen();
  }

  /** Forget the room at once. */
  close() {
    this.#settled = false;
    this.#listening.abort();
    for (const client of this.#typers.keys()) this.#stopTyping(client);
    this.#typing.unsubscribe();
    this.#chat.unsubscribe();
    this.log.close();
  }

  #listen() {
    this.#typing = this.#client.subscribe(`typing:${this.name}`);
    this.#typing.addEventListener("publication", ({ detail }) => this.#heardTyping(detail.info));
  }

  #connection({ state, code, reason }) {
    if (state === "connected") return;
    this.#settled = false;
    if (state === "connecting" && (code || reason)) this.#lost = true;
    for (const client of this.#typers.keys()) this.#stopTyping(client);
  }

  #enter({ wasRecovering, recovered, missed }) {
    this.#readMembers();
    this.#missed = { left: missed, all: missed };
    if (wasRecovering && !recovered) {
      const why = "the server was restarted, or you were away for too long";
      this.log.note(`What was said meanwhile cannot be had: ${why}.`, "gap");
      this.#loaded = false;
    }
    if (!this.#loaded) this.#load();
    else if (!missed) this.#caughtUp();
  }

  /** Show the history, and behind it what has been said since. */
  async #load() {
    this.#early ??= [];
    try {
      const { publications } = await this.#chat.history();
      const me = this.me();
      for (const { data } of publications) this.#arrived(data);
      this.log.load(publications.map(({ data }) => data), ({ name }) => name === me);
    } catch (error) {
      if (!(error instanceof CommandError)) return; // once connected again, we come here again
      this.log.note(`The history cannot be read: ${error.message}.`, "gap");
    }
    this.#loaded = true;
    for (const { data } of this.#early ?? []) this.#show(data);
    this.#early = null;
    this.#settle();
  }

  #publication(publication) {
    if (this.#early) this.#early.push(publication);
    else this.#show(publication.data);
    if (publication.recovered && --this.#missed.left === 0 && this.#loaded) this.#caughtUp();
  }

  #show(message) {
    this.#arrived(message);
    this.log.show(message, message.name === this.me());
    this.#closeIfDone();
  }

  #arrived({ id, name }) {
    this.#waiting = this.#waiting.filter((each) => each.id !== id);
    for (const [client, typer] of this.#typers) {
      if (typer.name === name) this.#stopTyping(client);
    }
  }

  #caughtUp() {
    const { all } = this.#missed;
    if (this.#lost || all) {
      this.log.note(`Back: ${all} message${all === 1 ? "" : "s"} caught up, none lost.`, "good");
    }
    this.#settle();
  }

  /** Now it is known what has arrived: send the rest, again if need be. */
  #settle() {
    this.#lost = false;
    this.#settled = true;
    for (const message of this.#waiting) message.sent = false;
    this.#deliver();
  }

  /** Send what waits, one after the other, so that the order stays. */
  async #deliver() {
    if (this.#delivering) return;
    this.#delivering = true;
    for (let message; (message = this.#settled && this.#waiting.find(({ sent }) => !sent)); ) {
      try {
        const { id, text } = message;
        await this.#client.rpc("say", { room: this.name, id, text });
        message.sent = true;
        this.log.acknowledge(id);
        this.#tell("");
      } catch (error) {
        if (error instanceof ConnectionLost) this.#settled = false;
        else if (error.temporary) await this.#wait(error);
        else this.#refuse(message, error);
      }
    }
    this.#delivering = false;
    this.#closeIfDone();
  }

  async #wait(error) {
    this.#tell(error.message);
    await new Promise((resolve) => setTimeout(resolve, PATIENCE));
  }

  #refuse(message, error) {
    this.#waiting = this.#waiting.filter((each) => each !== message);
    this.log.remove(message.id);
    this.#tell(error.message);
    this.dispatchEvent(new CustomEvent("refused", { detail: message.text }));
  }

  #tell(problem) {
    if (problem === this.problem) return;
    this.problem = problem;
    this.#changed();
  }

  async #readMembers() {
    const turnover = (this.#turnover = []);
    try {
      const members = await this.#chat.presence();
      if (turnover !== this.#turnover) return; // read anew meanwhile
      this.#members = new Map(members.map(({ client, user }) => [client, user]));
      this.#turnover = null;
      for (const [event, member] of turnover) this.#turn(event, member);
      this.#changed();
    } catch {
      // The connection is lost, and they are read again after it; or this moment was a bad one, and
      // those who join and leave are shown all the same.
      if (turnover === this.#turnover) this.#turnover = null;
    }
  }

  #turn(event, member) {
    this.#turnover?.push([event, member]);
    if (event === "join") this.#members.set(member.client, member.user);
    else this.#members.delete(member.client);
    if (event === "leave") this.#stopTyping(member.client);
    this.#changed();
  }

  #heardTyping({ client, user }) {
    if (client === this.#client.id) return;
    clearTimeout(this.#typers.get(client)?.timer);
    const timer = setTimeout(() => this.#stopTyping(client), TYPING);
    this.#typers.set(client, { name: user, timer });
    this.#changed();
  }

  #stopTyping(client) {
    clearTimeout(this.#typers.get(client)?.timer);
    if (this.#typers.delete(client)) this.#changed();
  }

  #closeIfDone() {
    if (this.#left && !this.#waiting.length) this.#end("");
  }

  #end(reason) {
    if (this.#listening.signal.aborted) return;
    this.close();
    this.dispatchEvent(new CustomEvent("end", { detail: reason }));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
