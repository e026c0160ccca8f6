// The live list of changes. Values are inserted as text, never as markup.
"use strict";

(() => {
  const list = document.querySelector("[data-feed]");
  if (!list || !list.dataset.stream) return;
  const live = document.querySelector("[data-live]");
  const pause = document.querySelector("[data-feed-pause]");
  const filter = document.querySelector("[data-feed-op]");
  const empty = document.querySelector("[data-feed-empty]");
  const VERBS = { created: "added", updated: "changed", deleted: "deleted", restored: "restored", erased: "erased", snapshot: "noted", merged: "merged", merged_into: "merged away", unmerged: "unmerged" };
  const LABELS = { name: "Name", email: "E-mail", phone: "Phone", deleted: "Deleted" };
  const MOST = 200;
  let paused = false;
  let held = [];

  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const said = (value) => {
    if (value === null || value === undefined || value === "") return "none";
    if (typeof value === "boolean") return value ? "yes" : "no";
    return String(value);
  };
  const flat = (customer) => {
    const { name, email, phone, deleted, metadata } = customer || {};
    return { name, email, phone, deleted, ...Object.fromEntries(Object.entries(metadata || {}).map(([k, v]) => ["metadata." + k, v])) };
  };

  function diff(before, after) {
    const rows = make("dl", undefined, "diff");
    const was = flat(before), is = flat(after);
    for (const key of new Set([...Object.keys(is), ...Object.keys(was)])) {
      if (was[key] === is[key] || (!before && (is[key] === null || is[key] === false))) continue;
      rows.append(make("dt", LABELS[key] || key.replace("metadata.", "")));
      const cell = make("dd");
      if (before) {
        const arrow = make("span", "→", "arrow");
        arrow.setAttribute("role", "img");
        arrow.setAttribute("aria-label", "became");
        cell.append(make("del", key in was ? said(was[key]) : "not there"), " ", arrow, " ");
      }
      cell.append(make("ins", key in is ? said(is[key]) : "removed"));
      rows.append(cell);
    }
    return rows;
  }

  function row(event) {
    const item = make("li", undefined, "fresh");
    item.dataset.op = event.op;
    item.dataset.event = event.id;
    const head = make("div", undefined, "event-head");
    const what = make("span");
    const link = make("a", event.after_change.name);
    link.href = "/ui/customers/" + encodeURIComponent(event.customer_id);
    what.append(make("strong", event.actor || "somebody"), ` ${VERBS[event.op] || event.op} `, link);
    const when = make("span", undefined, "quiet end");
    const time = make("time", "just now");
    time.dateTime = event.event_ts;
    time.title = new Date(event.event_ts).toUTCString();
    when.append(time);
    head.append(what, make("span", `version ${event.version}`, "badge"), when);
    item.append(head, diff(event.before_change, event.after_change));
    return item;
  }

  const fits = (item) => !filter.value || item.dataset.op === filter.value;
  function show(event) {
    if (list.querySelector(`[data-event="${CSS.escape(event.id)}"]`)) return;
    const item = row(event);
    item.hidden = !fits(item);
    list.prepend(item);
    empty.hidden = true;
    while (list.children.length > MOST) list.lastElementChild.remove();
  }
  function state(text, kind) {
    live.textContent = text;
    live.className = `live ${kind}`;
  }
  const told = () => paused ? state(held.length ? `Paused, ${held.length} waiting` : "Paused", "paused") : state("Live", "on");

  filter.addEventListener("change", () => { for (const item of list.children) item.hidden = !fits(item); });
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) { held.forEach(show); held = []; }
    told();
  });

  const source = new EventSource(list.dataset.stream);
  source.addEventListener("open", told);
  source.addEventListener("error", () => state("Connection lost, trying again", ""));
  const take = (message) => {
    let event;
    try { event = JSON.parse(message.data); } catch (e) { return; }
    if (!event || !event.after_change) return;
    if (paused) { held.push(event); if (held.length > MOST) held.shift(); told(); } else show(event);
  };
  for (const name of ["message", ...Object.keys(VERBS)]) source.addEventListener(name, take);
  addEventListener("pagehide", () => source.close());
})();
