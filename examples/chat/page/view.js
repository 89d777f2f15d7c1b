/** What the chat looks like: its parts, and how the state is shown in them. */

import { badge, make } from "./element.js";

const MOST = 500; // characters in a message
let views = 0;

export class View {
  #element;
  #state;
  #on;
  #id = `hubbub-chat-${++views}`; // several may be in one page
  #name;
  #input;
  #parts = {};
  #ticking;

  /**
   * @param {HTMLElement} element
   * @param {Object} state what is shown; its owner tells when to look at it again
   * @param {Object<string, Function>} on what to call when somebody does something
   */
  constructor(element, state, on) {
    this.#element = element;
    this.#state = state;
    this.#on = on;
    element.classList.add("hubbub-chat");
    element.replaceChildren(this.#makeJoin(), this.#makeTalk());
    this.#ticking = setInterval(() => this.showConnection(), 250); // it counts seconds down
  }

  close() {
    clearInterval(this.#ticking);
    this.#element.classList.remove("hubbub-chat");
    this.#element.replaceChildren();
  }

  /** Show that a name is being chosen, or the chat. The focus of a page that has just come is its own. */
  showName({ focus = true } = {}) {
    const { join, talk, keep, nameProblem } = this.#parts;
    const { choosing, name } = this.#state;
    const opened = choosing && join.hidden;
    join.hidden = !choosing;
    talk.hidden = choosing;
    keep.hidden = !name;
    nameProblem.textContent = this.#state.nameProblem;
    this.#name.setAttribute("aria-invalid", String(Boolean(this.#state.nameProblem)));
    if (opened) this.#name.value = name;
    if (focus && (opened || this.#state.nameProblem)) this.#name.select();
    this.showConnection();
    this.showLife();
  }

  /** Show another room. */
  showRoom() {
    const { room, rooms, roomProblem } = this.#state;
    this.#parts.title.textContent = room.name;
    this.#parts.rooms.replaceChildren(...[...rooms].map((name) => this.#makeRoomButton(name)));
    this.#parts.roomProblem.textContent = roomProblem;
    this.#parts.stage.replaceChildren(room.log.element);
    this.#parts.inputLabel.textContent = `Message to ${room.name}`;
    room.log.follow();
    this.showLife();
  }

  /** Show who is in the room, who is typing, and what is wrong. */
  showLife() {
    const { room, name } = this.#state;
    const { members, typers } = room;
    const count = [...members.values()].reduce((sum, connections) => sum + connections, 0);
    this.#parts.count.textContent = count;
    this.#parts.people.replaceChildren(
      ...[...members].map(([member, connections]) => makeMember(member, connections, member === name)),
    );
    setText(this.#parts.typing, describeTypers(typers));
    setText(this.#parts.problem, room.problem);
  }

  /** Show whether we are connected. */
  showConnection() {
    const { state, reason, until, cut } = this.#state.connection;
    const { status, countdown, lamp, toggle, joinStatus } = this.#parts;
    const seconds = Math.ceil((until - performance.now()) / 1000);
    const away = state === "connecting" && seconds > 0;
    let text = "Connecting…";
    if (state === "connected") text = "Connected";
    else if (away) text = "Reconnecting";
    else if (state === "disconnected") text = reason ? `Offline: ${reason}` : "Offline";
    setText(status, text);
    setText(countdown, away ? ` in ${seconds} s` : state === "connected" ? this.#describeLatency() : "");
    lamp.dataset.state = state;
    setText(toggle, state === "disconnected" ? "Connect" : cut && away ? `Back in ${seconds} s` : "Cut my connection");
    toggle.setAttribute("aria-disabled", String(state === "connecting"));
    setText(joinStatus, this.#state.asked === null ? "" : away ? `No connection: next attempt in ${seconds} s.` : "Connecting…");
  }

  /** Put the cursor where one would type next. */
  focusInput() {
    (this.#state.choosing ? this.#name : this.#input).focus();
  }

  /** Put a text that was refused back where it was written, before what is there. */
  giveBack(text) {
    this.#input.value = this.#input.value ? `${text}\n${this.#input.value}` : text;
    this.#count();
  }

  #describeLatency() {
    return `, ${Math.max(1, Math.round(this.#state.latency))} ms`;
  }

  // The parts.

  #makeJoin() {
    const id = `${this.#id}-name`;
    this.#name = make("input", {
      id,
      autocomplete: "nickname",
      maxlength: "80",
      spellcheck: "false",
      "aria-describedby": `${id}-problem`,
    });
    const keep = make("button.plain", { type: "button" }, "Cancel");
    const form = make(
      "form.card",
      {},
      make("h2", {}, "Come in"),
      make("label", { for: id }, "Your name"),
      make("div.field", {}, this.#name, make("button.main", {}, "Enter"), keep),
      (this.#parts.nameProblem = make("p.problem", { id: `${id}-problem`, role: "alert" })),
      (this.#parts.joinStatus = make("p.hint", { role: "status" })),
      make("p.hint", {}, "It is kept in this browser. There are no accounts: anybody can take any name."),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#on.chooseName(this.#name.value);
    });
    form.addEventListener("keydown", ({ key }) => key === "Escape" && !keep.hidden && this.#on.keepName());
    keep.addEventListener("click", () => this.#on.keepName());
    this.#parts.keep = keep;
    return (this.#parts.join = make("div.join", { hidden: true }, form));
  }

  #makeTalk() {
    const parts = this.#parts;
    parts.stage = make("div.stage");
    parts.typing = make("p.typing", { "aria-live": "polite" });
    return (parts.talk = make(
      "div.talk",
      { hidden: true },
      this.#makeBar(),
      make("div.side", {}, this.#makeRooms(), this.#makePeople()),
      parts.stage,
      parts.typing,
      this.#makeComposer(),
    ));
  }

  #makeBar() {
    const parts = this.#parts;
    parts.title = make("h2");
    parts.lamp = make("span.lamp", { "aria-hidden": "true" });
    parts.status = make("span", { role: "status" });
    parts.countdown = make("span.countdown", { "aria-hidden": "true" });
    parts.toggle = make("button", { type: "button" });
    parts.toggle.addEventListener("click", () => this.#on.toggle());
    const state = make("p.state", {}, parts.lamp, parts.status, parts.countdown);
    return make("div.bar", {}, parts.title, state, parts.toggle);
  }

  #makeRooms() {
    const parts = this.#parts;
    const id = `${this.#id}-room`;
    const other = make("input", {
      id,
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
      maxlength: "60",
      placeholder: "another room",
      "aria-describedby": `${id}-problem`,
    });
    const form = make(
      "form.field",
      {},
      make("label.unseen", { for: id }, "Another room"),
      other,
      make("button", {}, "Go"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#on.goTo(other.value);
      other.value = "";
    });
    parts.rooms = make("ul", { role: "list" });
    parts.roomProblem = make("p.problem", { id: `${id}-problem`, role: "alert" });
    return make("nav.rooms", { "aria-label": "Rooms" }, parts.rooms, form, parts.roomProblem);
  }

  #makeRoomButton(name) {
    const current = name === this.#state.room.name;
    const button = make("button", { type: "button", "aria-current": current && "page" }, name);
    button.addEventListener("click", () => {
      this.#on.goTo(name);
      this.focusInput();
    });
    return make("li", {}, button);
  }

  #makePeople() {
    const parts = this.#parts;
    parts.count = make("span.count");
    parts.people = make("ul", { role: "list" });
    const change = make("button.plain", { type: "button" }, "Change my name");
    change.addEventListener("click", () => this.#on.changeName());
    const id = `${this.#id}-people`;
    return make(
      "section.people",
      { "aria-labelledby": id },
      make("h3", { id }, "Here: ", parts.count),
      parts.people,
      change,
    );
  }

  #makeComposer() {
    const parts = this.#parts;
    const id = `${this.#id}-text`;
    this.#input = make("textarea", {
      id,
      rows: "1",
      autocomplete: "off",
      enterkeyhint: "send",
      placeholder: "Say something",
      "aria-describedby": `${id}-problem ${id}-count`,
    });
    parts.inputLabel = make("label.unseen", { for: id });
    parts.problem = make("p.problem", { id: `${id}-problem`, role: "alert" });
    parts.length = make("p.length", { id: `${id}-count` });
    const form = make(
      "form.composer",
      {},
      parts.inputLabel,
      make("div.field", {}, this.#input, make("button.main", {}, "Send")),
      make("div.below", {}, parts.problem, parts.length),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.#input.addEventListener("input", () => {
      if (this.#count()) setText(this.#parts.problem, this.#state.room.problem);
      if (this.#input.value.trim()) this.#on.type();
    });
    this.#count();
    return form;
  }

  #send() {
    // Half of a surrogate pair is no character that could be sent.
    const text = this.#input.value.trim().replace(/\p{Surrogate}/gu, "\ufffd");
    if (!this.#count()) {
      setText(this.#parts.problem, `a message has at most ${MOST} characters`);
    } else if (text) {
      this.#input.value = "";
      this.#count();
      this.#on.say(text);
    }
    this.#input.focus();
  }

  /** Show how long the text is, and tell whether it can be sent. */
  #count() {
    const length = [...this.#input.value.trim()].length;
    const fits = length <= MOST;
    this.#parts.length.textContent = fits ? `${length} / ${MOST}` : `${length} / ${MOST}: too long`;
    this.#parts.length.classList.toggle("over", !fits);
    this.#input.setAttribute("aria-invalid", String(!fits));
    return fits;
  }
}

function makeMember(name, connections, own) {
  const notes = [connections > 1 && ` ×${connections}`, own && " (you)"].filter(Boolean);
  return make("li", {}, badge(name), make("bdi", {}, name), make("span.aside", {}, ...notes));
}

function describeTypers(names) {
  if (names.length > 2) return "Several people are typing…";
  return names.length ? `${names.join(" and ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
}

/** Set a text if it is another one: screen readers read every change. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
