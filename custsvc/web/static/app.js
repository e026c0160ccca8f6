// The pages work without this script; it adds comfort.
"use strict";

const on = (type, selector, handler) =>
  document.addEventListener(type, (event) => {
    const found = event.target.closest && event.target.closest(selector);
    if (found) handler(found, event);
  });

// -- theme --
const isDark = () =>
  (document.documentElement.dataset.theme ||
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

on("click", "[data-theme-toggle]", () => {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("custsvc-theme", next); } catch (e) { /* storage is off: the theme holds for this page only */ }
});

// -- update relative times while a page is open --
const UNITS = [[31536000, "year"], [2592000, "month"], [86400, "day"], [3600, "hour"], [60, "minute"]];

function relative(seconds) {
  if (Math.abs(seconds) < 45) return seconds >= 0 ? "just now" : "in a moment";
  for (const [size, name] of UNITS) {
    if (Math.abs(seconds) >= size * 0.75) {
      const count = Math.max(1, Math.round(Math.abs(seconds) / size));
      const text = `${count} ${name}${count === 1 ? "" : "s"}`;
      return seconds > 0 ? `${text} ago` : `in ${text}`;
    }
  }
  return seconds > 0 ? "a minute ago" : "in a minute";
}

setInterval(() => {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const text = relative((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}, 10000);

// -- bring the chosen one of many tabs into sight, which a phone would cut off --
for (const chosen of document.querySelectorAll(".views [aria-current]")) {
  const tabs = chosen.closest(".views");
  tabs.scrollLeft = chosen.offsetLeft - tabs.offsetLeft - (tabs.clientWidth - chosen.offsetWidth) / 2;
}

// -- hide toasts after 10 s, unless they have the pointer or the focus --
function watchToast(toast) {
  let left;
  const start = () => { if (!toast.matches(":hover, :focus-within")) left = setTimeout(() => toast.remove(), 10000); };
  const hold = () => clearTimeout(left);
  for (const type of ["mouseenter", "focusin"]) toast.addEventListener(type, hold);
  for (const type of ["mouseleave", "focusout"]) toast.addEventListener(type, start);
  start();
}
document.querySelectorAll("[data-toast]").forEach(watchToast);
on("click", "[data-toast-close]", (button) => button.closest("[data-toast]").remove());

// -- close menus on a click outside and on Escape --
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]"))
    if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// -- show that the keyboard is in a frame, which no :focus matches --
const inFrame = () => document.querySelectorAll("iframe").forEach(
  (frame) => frame.classList.toggle("focused", frame === document.activeElement));
for (const type of ["blur", "focus"]) addEventListener(type, inFrame);

// -- "/" focuses the search --
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  const search = document.querySelector("[data-search]");
  if (search) { event.preventDefault(); search.focus(); search.select(); }
});

// -- selection in lists --
function countChosen() {
  const boxes = [...document.querySelectorAll("[data-choose]")];
  const chosen = boxes.filter((box) => box.checked);
  for (const box of boxes) box.closest("tr").classList.toggle("chosen", box.checked);
  const bar = document.querySelector("[data-bulk]");
  if (bar) {
    const matching = bar.querySelector("[data-choose-matching]");
    if (matching && chosen.length < boxes.length) matching.checked = false;
    bar.classList.toggle("on", chosen.length > 0);
    bar.querySelector("[data-count]").textContent = matching?.checked ? "All chosen" : `${chosen.length} chosen`;
  }
  const all = document.querySelector("[data-choose-all]");
  if (all) {
    all.checked = boxes.length > 0 && chosen.length === boxes.length;
    all.indeterminate = chosen.length > 0 && chosen.length < boxes.length;
  }
}
on("change", "[data-choose]", countChosen);
on("change", "[data-choose-all]", (all) => {
  for (const box of document.querySelectorAll("[data-choose]")) box.checked = all.checked;
  countChosen();
});
on("change", "[data-choose-matching]", (matching) => {
  if (matching.checked) for (const box of document.querySelectorAll("[data-choose]")) box.checked = true;
  countChosen();
});
on("click", "[data-choose-none]", () => {
  for (const box of document.querySelectorAll("[data-choose]")) box.checked = false;
  countChosen();
});

// -- do not send a form again while it is being sent --
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) { event.preventDefault(); return; }
  if (form.method === "post" && !form.target && !event.submitter?.formTarget && !form.hasAttribute("data-again")) {
    form.dataset.sent = "yes";
    setTimeout(() => delete form.dataset.sent, 5000);
  }
});
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));

// -- send a filter when it changes --
on("change", "[data-auto]", (field) => field.form.requestSubmit());

// -- leave empty fields out of the address --
on("submit", "form[data-tidy]", (form) => {
  for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  setTimeout(() => { for (const field of form.elements) field.disabled = false; });
});
document.addEventListener("htmx:configRequest", (event) => {
  const { parameters, verb } = event.detail;
  if (verb === "get") for (const name of Object.keys(parameters)) if (!parameters[name]) delete parameters[name];
});

// -- metadata rows --
on("click", "[data-add-pair]", (button) => {
  const pairs = document.querySelector("[data-pairs]");
  const row = pairs.querySelector("template").content.cloneNode(true);
  pairs.append(row);
  pairs.lastElementChild.querySelector("input").focus();
});
on("click", "[data-drop-pair]", (button) => {
  const row = button.closest(".pair");
  const next = row.nextElementSibling || document.querySelector("[data-add-pair]");
  row.remove();
  (next.querySelector?.("input") || next).focus();
});

// -- warn before leaving a form with unsaved input --
let dirty = false;
on("input", "form[data-guard]", () => { dirty = true; });
on("submit", "form", () => { dirty = false; });
addEventListener("beforeunload", (event) => { if (dirty) event.preventDefault(); });

document.addEventListener("htmx:afterSettle", countChosen);
countChosen();
document.querySelectorAll("[data-focus]").forEach((element) => element.focus());
