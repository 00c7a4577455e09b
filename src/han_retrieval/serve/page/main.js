// The page; its address holds all of its state.
import * as address from "./address.js";
import { ByPhoto } from "./by-photo.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { Parts } from "./parts.js";
import { Results } from "./results.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const TYPING_PAUSE = 160; // ms without typing before a search
const NEW_ENTRY_PAUSE = 1500; // ms without typing after which a search makes a new entry of the history
const ERROR_DELAY = 600; // ms before an error about words typed so far is shown: the next letter may mend it
const LOAD_AHEAD = 1.5; // window heights above the end at which more photos are loaded

const PLACEHOLDER = $("q").placeholder;

let state = address.read();
let loadedFor = null; // the query and filters of the photos that are shown
let typed = { timer: 0, at: 0 };
let errorTimer = 0;
let total = 0;
let uploaded = ""; // the photo of the last search
let answered = null; // the answer that is shown
let closing = false;

const grid = new Grid($("grid"), {
  address: (hit) => address.write({ ...state, photo: hit.id }),
  open: (place) => change({ photo: grid.hits[place].id }, { push: true }),
  isAlike: () => !state.q.trim() && isByPhoto(),
});
const filters = new Filters({ changed: (chosen) => change(chosen, { push: true }) });
const parts = new Parts({
  changed: (query) => change({ q: ($("q").value = query), photo: "" }, { push: true }),
  isCurrent: (query) => $("q").value.trim() === query,
});
const viewer = new Viewer({
  closed: closeViewer,
  moved: moveViewer,
  similar: (id) => change({ q: "", like: id, upload: "", photo: "" }, { push: true }),
  likeness: (id) => byPhoto.likeness(id),
});
const byPhoto = new ByPhoto({
  chosen(number) {
    clearTimeout(typed.timer);
    $("q").value = "";
    change({ q: "", like: "", upload: number, photo: "" }, { push: true });
  },
  closed: () => change({ like: "", upload: "" }, { push: true }),
});
const results = new Results({
  shown: showResults,
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
  document.title = state.q ? `${state.q} – han-retrieval` : "han-retrieval";
  if (state.upload !== "" && !byPhoto.file(state.upload)) state.upload = ""; // of an earlier visit
  $("q").placeholder = isByPhoto() ? "Add words to the photo: in the snow" : PLACEHOLDER;
  filters.show(state);
  byPhoto.show(state);
  const { photo, ...asked } = state;
  if (JSON.stringify(asked) !== loadedFor) load(asked);
  if (photo && viewer.id !== photo) showPhoto(photo);
  if (!photo && viewer.id) {
    const place = grid.place(viewer.id);
    viewer.close();
    grid.focus(place);
  }
}

function load(asked) {
  loadedFor = JSON.stringify(asked);
  clearTimeout(errorTimer);
  if (asked.upload !== "" && asked.upload !== uploaded) {
    grid.clear(); // it takes a while, in which others would seem to be the answer
    $("status").textContent = "Looking at the photo…";
  }
  uploaded = asked.upload;
  results.load(request(asked));
}

function request({ q, like, upload, ...chosen }) {
  const sentence = q.trim();
  if (upload !== "") {
    const body = new FormData();
    body.set("photo", byPhoto.file(upload));
    if (sentence) body.set("q", sentence);
    return { path: sentence ? "/api/search" : "/api/similar", params: chosen, body };
  }
  if (like && sentence) return { path: "/api/search", params: { q: sentence, like, ...chosen } };
  if (like) return { path: `/api/photos/${encodeURIComponent(like)}/similar`, params: chosen };
  return sentence ? { path: "/api/search", params: { q: sentence, ...chosen } } : { path: "/api/photos", params: chosen };
}

function showResults(answer, isFirst) {
  if (isFirst) {
    parts.show(state.q.trim(), answer.parts ?? []);
    grid.clear();
    scrollTo({ top: 0 });
    $("message").hidden = true;
  }
  total = answer.total;
  grid.add(answer.hits);
  answered = answer;
  $("more").hidden = !(grid.isWeak && results.more);
  showStatus(answer);
  if (viewer.id) showPhoto(viewer.id, { again: true });
  if (!grid.hits.length) showNothing(answer);
  loadNearEnd();
}

function showStatus({ unknown, alike, knows, nothing, missing }) {
  const parts = [];
  if (nothing) parts.push(`No photo is likely to match “${state.q.trim()}”. These are the closest.`);
  else if (grid.hits.length) parts.push(`${total.toLocaleString()} ${total === 1 ? "photo" : "photos"}, ${order()} first`);
  if (unknown.length) {
    const quoted = unknown.map((word) => `“${word}”`).join(", ");
    parts.push(`The model does not know the ${unknown.length === 1 ? "word" : "words"} ${quoted}${knows ? `. It knows ${knows}` : ""}`);
  }
  if (missing) parts.push(`${missing.toLocaleString()} photos were not searched: their server is being replaced. Search again in a minute`);
  $("status").textContent = parts.join(nothing ? " " : " · ");
  if (!state.q.trim() && !isByPhoto() && filters.examples.length) {
    $("status").append(" · Try ", ...filters.examples.flatMap((query, i) => [i ? ", " : "", link(query, query)]));
  }
  const better = Object.entries(alike).reduce((query, [word, other]) => query.replace(new RegExp(`(?<![\\p{L}\\p{N}])${escaped(word)}(?![\\p{L}\\p{N}])`, "giu"), other), state.q);
  if (better !== state.q) {
    $("status").append(" · Did you mean ", link(better.trim(), better), "?");
  }
  $("status").classList.toggle("notable", nothing || unknown.length > 0 || missing > 0);
}

// A button within a sentence that searches for a query.
function link(text, query) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.textContent = text;
  button.onclick = () => change({ q: ($("q").value = query), photo: "" }, { push: true });
  return button;
}

const escaped = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

const isByPhoto = () => Boolean(state.like) || state.upload !== "";

function order() {
  if (grid.hits[0].score == null) return "newest";
  return state.q.trim() ? "best match" : "most similar";
}

function showNothing({ photos, missing }) {
  const filtered = state.root || state.folder || state.since || state.until;
  if (!photos) message("No photos yet", "This index is empty. Add photos with “han index PHOTOS --out INDEX”; they appear here within seconds.");
  else if (missing) message("The photos cannot be searched now", "Their server is being replaced, which takes about a minute.", "Search again", retry);
  else if (filtered) message("No photo matches the filters", "This folder has no photos from these days.", "Clear the filters", () => change({ root: "", folder: "", since: "", until: "" }, { push: true }));
  else message("No photos found", "Try other words.");
}

function showFailure(error, isFirst) {
  if (!isFirst) {
    $("status").textContent = error.message;
    return;
  }
  const soon = Date.now() - typed.at < ERROR_DELAY ? ERROR_DELAY : 0;
  errorTimer = setTimeout(() => {
    grid.clear();
    $("status").textContent = "";
    parts.show("", []);
    if (error.status === 422) message(state.q.trim() ? "Try other words" : "This search is not possible", error.message);
    else message("Something went wrong", error.message, "Try again", retry);
  }, soon);
}

function retry() {
  loadedFor = null;
  render();
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
  const shown = { hit: grid.hits[place], sentence: state.q.trim(), place, total };
  if (again) viewer.count(shown);
  else viewer.show(id, shown);
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
    const push = Date.now() - typed.at > NEW_ENTRY_PAUSE;
    typed.at = Date.now();
    change({ q: $("q").value, photo: "" }, { push });
  }, TYPING_PAUSE);
}

function loadNearEnd() {
  const end = $("end").getBoundingClientRect().top;
  if (end < innerHeight * (1 + LOAD_AHEAD) && !grid.isWeak) results.loadMore();
}

$("more").addEventListener("click", () => results.loadMore());
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
  change({ q: $("q").value, photo: "" }, { push: true });
});
$("grid").addEventListener("leave", () => $("q").focus());
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) (event.preventDefault(), $("q").focus(), $("q").select());
});
addEventListener("scroll", loadNearEnd, { passive: true });
addEventListener("resize", loadNearEnd, { passive: true });
addEventListener("popstate", () => {
  closing = false;
  state = address.read();
  $("q").value = state.q;
  render();
});

$("q").value = state.q;
render();
filters.load().then(() => answered && showStatus(answered)).catch(() => {}); // if the server does not respond, the photos show the error
