// The page: what its address says is what it shows.
import * as address from "./address.js";
import { ByPhoto } from "./by-photo.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { Results } from "./results.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const PAUSE = 160; // ms without typing before a search
const A_THOUGHT = 1500; // ms after which typing begins a new entry of the history
const PATIENCE = 600; // ms before it is said that words typed so far are wrong: the next letter may mend them
const HEIGHTS_AHEAD = 1.5; // of the window, at which more photos are asked for

let state = address.read();
let shownFor = null; // what the photos were asked for with
let typed = { timer: 0, at: 0 };
let complaint = 0;
let total = 0;
let closing = false;

const grid = new Grid($("grid"), {
  address: (hit) => address.write({ ...state, photo: hit.id }),
  open: (place) => change({ photo: grid.hits[place].id }, { push: true }),
});
const filters = new Filters({ changed: (chosen) => change(chosen, { push: true }) });
const viewer = new Viewer({
  closed: closeViewer,
  moved: moveViewer,
  similar: (id) => change({ q: "", like: id, upload: "", photo: "" }, { push: true }),
});
const byPhoto = new ByPhoto({
  given(number) {
    clearTimeout(typed.timer);
    $("q").value = "";
    change({ q: "", like: "", upload: number, photo: "" }, { push: true });
  },
  left: () => change({ like: "", upload: "" }, { push: true }),
});
const results = new Results({
  shown: showAnswer,
  failed: showFailure,
  busy(whether) {
    $("progress").hidden = !whether;
    $("grid").setAttribute("aria-busy", whether);
  },
});

function change(changes, { push }) {
  state = { ...state, ...changes };
  address.go(state, { push });
  render();
}

function render() {
  if (document.activeElement !== $("q")) $("q").value = state.q;
  document.title = state.q ? `${state.q} – Photos` : "Photos";
  if (state.upload !== "" && !byPhoto.file(state.upload)) state.upload = ""; // of a visit before this one
  filters.show(state);
  byPhoto.show(state);
  const { photo, ...asked } = state;
  if (JSON.stringify(asked) !== shownFor) load(asked);
  if (photo && viewer.id !== photo) showPhoto(photo);
  if (!photo && viewer.id) {
    const place = grid.place(viewer.id);
    viewer.close();
    grid.focus(place);
  }
}

function load(asked) {
  shownFor = JSON.stringify(asked);
  clearTimeout(complaint);
  results.load(request(asked));
}

function request({ q, like, upload, ...chosen }) {
  if (upload !== "") {
    const body = new FormData();
    body.set("photo", byPhoto.file(upload));
    return { path: "/api/similar", params: chosen, body };
  }
  if (like) return { path: `/api/photos/${encodeURIComponent(like)}/similar`, params: chosen };
  const sentence = q.trim();
  return sentence ? { path: "/api/search", params: { q: sentence, ...chosen } } : { path: "/api/photos", params: chosen };
}

function showAnswer(answer, isFirst) {
  if (isFirst) {
    grid.clear();
    scrollTo({ top: 0 });
    $("message").hidden = true;
  }
  total = answer.total;
  grid.add(answer.hits);
  say(answer);
  if (viewer.id) showPhoto(viewer.id, { again: true });
  if (!grid.hits.length) showNothing(answer);
  seeEnd();
}

function say({ unknown, nothing }) {
  const quoted = unknown.map((word) => `“${word}”`).join(", ");
  const parts = [];
  if (nothing) parts.push(`Nothing here is likely to match “${state.q.trim()}”. These come nearest.`);
  else if (grid.hits.length) parts.push(`${total.toLocaleString()} ${total === 1 ? "photo" : "photos"}, ${order()} first`);
  if (quoted) parts.push(`The model does not know ${quoted}`);
  $("status").textContent = parts.join(nothing ? " " : " · ");
  $("status").classList.toggle("notable", nothing || Boolean(quoted));
}

function order() {
  if (state.like || state.upload !== "") return "most alike";
  return state.q.trim() ? "best match" : "newest";
}

function showNothing({ photos }) {
  const filtered = state.root || state.folder || state.since || state.until;
  if (!photos) message("No photos yet", "This index is empty. “han index PHOTOS --out INDEX” adds photos to it; they appear here by themselves.");
  else if (filtered) message("No photo fits the filters", "There is none of these days in this folder.", "Clear the filters", () => change({ root: "", folder: "", since: "", until: "" }, { push: true }));
  else message("Nothing matches", "Try other words.");
}

function showFailure(error, isFirst) {
  if (!isFirst) {
    $("status").textContent = error.message;
    return;
  }
  const soon = Date.now() - typed.at < PATIENCE ? PATIENCE : 0;
  complaint = setTimeout(() => {
    grid.clear();
    $("status").textContent = "";
    if (error.status === 422) message(state.q.trim() ? "Try other words" : "That cannot be searched with", error.message);
    else message("That did not work", error.message, "Try again", () => ((shownFor = null), render()));
  }, soon);
}

function message(title, text, action, act) {
  $("message-title").textContent = title;
  $("message-text").textContent = text;
  $("message-action").hidden = !action;
  $("message-action").textContent = action ?? "";
  $("message-action").onclick = act ?? null;
  $("message").hidden = false;
}

function showPhoto(id, { again = false } = {}) {
  const place = grid.place(id);
  const told = { hit: grid.hits[place], sentence: state.q.trim(), place, total };
  if (again) viewer.count(told);
  else viewer.show(id, told);
}

async function moveViewer(step) {
  const place = grid.place(viewer.id) + step;
  if (place >= grid.hits.length) await results.loadMore();
  if (grid.place(viewer.id) >= 0 && grid.hits[place]) change({ photo: grid.hits[place].id }, { push: false });
}

function closeViewer() {
  if (!state.photo || closing) return;
  closing = Boolean(history.state?.pushed); // until the address has changed
  if (closing) history.back();
  else change({ photo: "" }, { push: false });
}

function type() {
  clearTimeout(typed.timer);
  typed.timer = setTimeout(() => {
    const push = Date.now() - typed.at > A_THOUGHT;
    typed.at = Date.now();
    change({ q: $("q").value, like: "", upload: "", photo: "" }, { push });
  }, PAUSE);
}

function seeEnd() {
  const end = $("end").getBoundingClientRect().top;
  if (end < innerHeight * (1 + HEIGHTS_AHEAD)) results.loadMore();
}

$("q").addEventListener("input", type);
$("q").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" && grid.hits.length) (event.preventDefault(), grid.focus(0));
  if (event.key !== "Escape") return;
  event.preventDefault();
  if (!$("q").value) $("q").blur();
  else ($("q").value = ""), type();
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typed.timer);
  typed.at = 0;
  change({ q: $("q").value, like: "", upload: "", photo: "" }, { push: true });
});
$("grid").addEventListener("leave", () => $("q").focus());
addEventListener("keydown", (event) => {
  const writing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey) (event.preventDefault(), $("q").focus(), $("q").select());
});
addEventListener("scroll", seeEnd, { passive: true });
addEventListener("resize", seeEnd, { passive: true });
addEventListener("popstate", () => {
  closing = false;
  state = address.read();
  $("q").value = state.q;
  render();
});

$("q").value = state.q;
render();
filters.load().catch(() => {}); // where the server does not answer, the photos say so
