/** What is said in a room, as a list in the page: published messages, then those on their way. */

import { badge, make } from "./element.js";

const MOST = 500; // rows in the page
const TOGETHER = 300; // seconds: messages of one person within them stand together

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });

/** @typedef {{id: string, name: string, text: string, time: number}} Message  time: Unix seconds */

export class Log {
  #list = make("ol", { role: "list" });
  #scroller;
  #news = make("button.news", { type: "button", hidden: true });
  #rows = new Map(); // by the id of the message
  #messages = new WeakMap(); // by row
  #day = "";
  #following = true; // whether the newest is in view, and is to stay there
  #unread = 0;
  #watcher;

  constructor(label) {
    this.#scroller = make(
      "div.scroller",
      { role: "log", "aria-live": "polite", "aria-label": label, tabindex: "0" },
      this.#list,
    );
    /** What belongs into the page. */
    this.element = make("div.log", {}, this.#scroller, this.#news);
    this.#scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    this.#news.addEventListener("click", () => {
      this.follow();
      this.#scroller.focus();
    });
    this.#watcher = new ResizeObserver(() => this.#keepInView());
    this.#watcher.observe(this.#scroller);
  }

  /** Show a message that was published, behind those published before; nothing if it is shown. */
  show(message, mine) {
    if (this.#publish(message, mine) && !this.#following && !mine) this.#unread += 1;
    this.#finish();
  }

  /** Show many messages at once, without reading them out. */
  load(messages, isMine) {
    this.#scroller.setAttribute("aria-busy", "true");
    for (const message of messages) this.#publish(message, isMine(message));
    this.#finish();
    this.#scroller.setAttribute("aria-busy", "false");
  }

  /** Show an own message that is on its way, at the end. */
  hold(message) {
    const row = this.#row(message, ".mine.waiting");
    this.#list.append(row);
    this.#group(row);
    this.follow();
    this.#finish();
  }

  /** Tell that the server has taken a message. */
  acknowledge(id) {
    const state = this.#rows.get(id)?.querySelector(".state");
    if (state) state.textContent = "";
  }

  /** Take away a message that the server has not taken. */
  remove(id) {
    const row = this.#rows.get(id);
    const next = row.nextElementSibling;
    this.#rows.delete(id);
    row.remove();
    if (next) this.#group(next);
  }

  /**
   * Write a line between the messages.
   * @param {string} kind "good": all is well; "gap": something is missing here
   */
  note(text, kind) {
    this.#insert(make(`li.note.${kind}`, {}, make("span", {}, text)));
    this.#finish();
  }

  /** Go to the newest message, and stay there. */
  follow() {
    this.#following = true;
    this.#keepInView();
  }

  close() {
    this.#watcher.disconnect();
    this.element.remove();
  }

  #publish(message, mine) {
    let row = this.#rows.get(message.id);
    if (row && !row.classList.contains("waiting")) return false;
    const day = calendar.format(message.time * 1000);
    if (day !== this.#day) this.#insert(make("li.day", {}, make("span", {}, day)));
    this.#day = day;
    if (!row) {
      row = this.#row(message, mine ? ".mine" : "");
      this.#insert(row);
    } else {
      // It has its place now. A row that is there already is not moved: it would be read out again.
      row.classList.remove("waiting");
      const first = this.#firstWaiting();
      const inPlace = !first || row.compareDocumentPosition(first) & Node.DOCUMENT_POSITION_FOLLOWING;
      const next = row.nextElementSibling;
      if (!inPlace) this.#insert(row);
      if (next) this.#group(next);
      this.#fill(row, message);
    }
    this.#group(row);
    return true;
  }

  #row(message, classes) {
    const row = make(
      `li.message${classes}`,
      {},
      "",
      make(
        "div.bubble",
        {},
        make("bdi.name"),
        make("p.text", { dir: "auto" }),
        make("p.when", {}, make("time"), make("span.state")),
      ),
    );
    this.#rows.set(message.id, row);
    this.#fill(row, message);
    return row;
  }

  #fill(row, message) {
    this.#messages.set(row, message);
    const at = new Date(message.time * 1000);
    row.firstChild.replaceWith(badge(message.name));
    row.querySelector(".name").textContent = message.name;
    row.querySelector(".text").textContent = message.text;
    row.querySelector("time").textContent = clock.format(at);
    row.querySelector("time").dateTime = at.toISOString();
    row.querySelector(".state").textContent = row.matches(".waiting") ? "sending…" : "";
  }

  /** Put a row behind what was published, before what is on its way. */
  #insert(row) {
    this.#list.insertBefore(row, this.#firstWaiting());
  }

  #firstWaiting() {
    return this.#list.querySelector(":scope > .waiting");
  }

  /** Tell whether a row goes on with what the same person has just said. */
  #group(row) {
    for (const each of [row, row.nextElementSibling]) {
      const message = each && this.#messages.get(each);
      const before = message && each.previousElementSibling;
      const last = before && this.#messages.get(before);
      each?.classList.toggle(
        "follows",
        Boolean(last) && last.name === message.name && message.time - last.time < TOGETHER,
      );
    }
  }

  #finish() {
    while (this.#list.childElementCount > MOST) this.#dropOldest();
    if (this.#following) this.#keepInView();
    else this.#tellNews();
  }

  /** Drop the oldest message or note; the day that it is of stays, while there are more of it. */
  #dropOldest() {
    const [first, second] = this.#list.children;
    const row = first.matches(".day") && !second.matches(".day") ? second : first;
    this.#rows.delete(this.#messages.get(row)?.id);
    const next = row.nextElementSibling;
    row.remove();
    this.#group(next);
  }

  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#following = scrollHeight - scrollTop - clientHeight < 40;
    if (this.#following) this.#tellNews();
  }

  #keepInView() {
    if (!this.#following) return;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#tellNews();
  }

  #tellNews() {
    if (this.#following) this.#unread = 0;
    this.#news.hidden = this.#unread === 0;
    this.#news.textContent = `${this.#unread} new message${this.#unread === 1 ? "" : "s"} ↓`;
  }
}
