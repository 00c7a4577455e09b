// The page; its address holds all of its state.
import * as address from "./address.js";
import { ask } from "./api.js";
import { ByPhoto } from "./by-photo.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { message } from "./message.js";
import { whyNothing } from "./nothing.js";
import { Parts } from "./parts.js";
import { request } from "./request.js";
import { Results } from "./results.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const REFUSED = [404, 413, 422]; // statuses of a photo that cannot be searched with
const TYPING_PAUSE = 160; // ms without typing before a search
const NEW_ENTRY_PAUSE = 1500; // ms without typing after which a search makes a new entry of the history
const ERROR_DELAY = 600; // ms before an error about words typed so far is shown: the next letter may mend it
const FEW = 12; // photos that are shown at first where all are weak matches
const LOAD_AHEAD = 1.5; // window heights above the end at which more photos are loaded

const PLACEHOLDER = $("q").placeholder;

let state = address.read();
let loadedFor = null; // the query and filters of the photos that are shown
let typed = { timer: 0, at: 0 };
let errorTimer = 0;
let total = 0;
let uploaded = ""; // the photo of the last search
let answered = null; // the answer that is shown
let onlyWeak = false; // whether the list begins with weak matches
let withheld = []; // photos of the answer that are not shown yet
let opening = ""; // the photo that is looked up, as the list does not have it
let lost = ""; // what is said of the photo of the address where there is none
let closing = false;
let restored = null; // how far the list of an entry of the history was loaded, { shown, top }, until it is so again
let focused = null; // what had the focus last

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
  if (push) history.replaceState({ ...history.state, shown: grid.hits.length, top: scrollY }, "");
  restored = null;
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
  else restored = null;
  if (photo && viewer.id !== photo) openPhoto(photo);
  if (!photo && viewer.id) {
    const place = grid.place(viewer.id);
    viewer.close();
    grid.focus(place);
  }
  keepFocus();
}

// Where what had the focus is gone, a photo takes it, so that keys and screen readers do not begin anew at the top.
function keepFocus() {
  if (document.activeElement !== document.body || !focused || viewer.id) return;
  if (focused.isConnected && !focused.disabled && focused.checkVisibility()) return;
  focused = null;
  ($("grid").querySelector("a[tabindex='0']") ?? $("message-action")).focus({ preventScroll: true });
}

function load(asked) {
  loadedFor = JSON.stringify(asked);
  lost = "";
  clearTimeout(errorTimer);
  if (asked.upload !== "" && asked.upload !== uploaded) {
    clear(); // it takes a while, in which others would seem to be the answer
    $("status").textContent = "Looking at the photo…";
  }
  uploaded = asked.upload;
  results.load(request(asked, byPhoto.file(asked.upload)));
}

function clear() {
  grid.clear();
  withheld = [];
  $("more").hidden = $("message").hidden = true;
}

function showResults(answer, isFirst) {
  if (isFirst) {
    parts.show(state.q.trim(), answer.parts ?? []);
    clear();
    scrollTo({ top: 0 });
    onlyWeak = answer.hits.length > 0 && (answer.nothing || answer.hits.every(({ match }) => match === "weak"));
    withheld = onlyWeak ? answer.hits.splice(FEW) : [];
  }
  total = answer.total;
  answered = answer;
  showMore(answer.hits);
  showStatus(answer);
  if (viewer.id) viewer.count(placeOf(viewer.id));
  if (!grid.hits.length) showNothing(answer);
  if (!restored) loadNearEnd();
  else if (!isWeak() && grid.hits.length < restored.shown && results.more) results.loadMore();
  else {
    if (withheld.length && grid.hits.length < restored.shown) showMore(withheld.splice(0));
    scrollTo({ top: restored.top });
    restored = null;
  }
  keepFocus();
}

function showMore(hits) {
  const from = document.activeElement === $("more") ? grid.hits.length : -1;
  grid.add(hits);
  $("more").hidden = !(isWeak() && (withheld.length || results.more));
  if (from >= 0 && $("more").hidden) grid.focus(from);
}

const isWeak = () => onlyWeak || grid.isWeak;

async function loadMore() {
  if (withheld.length) showMore(withheld.splice(0));
  else await results.loadMore();
}

function showStatus({ unknown, alike, knows, nothing, missing }) {
  const parts = [];
  if (nothing && onlyWeak) parts.push(`No photo is likely to match “${state.q.trim()}”. These are the closest.`);
  else if (onlyWeak) parts.push(`There are only weak matches for “${state.q.trim()}”. These are the closest.`);
  else if (grid.hits.length) parts.push(`${total.toLocaleString()} ${total === 1 ? "photo" : "photos"}, ${order()} first`);
  if (unknown.length) {
    const quoted = unknown.map((word) => `“${word}”`).join(", ");
    parts.push(`The model does not know the ${unknown.length === 1 ? "word" : "words"} ${quoted}${knows ? `. It knows ${knows}` : ""}`);
  }
  if (missing) parts.push(`${missing.toLocaleString()} photos were not searched: their server is being replaced. Search again in a minute`);
  $("status").textContent = [lost, parts.join(onlyWeak ? " " : " · ")].filter(Boolean).join(" ");
  if (!state.q.trim() && !isByPhoto() && filters.examples.length) {
    $("status").append(" · Try ", ...filters.examples.flatMap((query, i) => [i ? ", " : "", link(query, query)]));
  }
  const better = Object.entries(alike).reduce((query, [word, other]) => query.replace(new RegExp(`(?<![\\p{L}\\p{N}])${escaped(word)}(?![\\p{L}\\p{N}])`, "giu"), other), state.q);
  if (better !== state.q) {
    $("status").append(" · Did you mean ", link(better.trim(), better), "?");
  }
  $("status").classList.toggle("notable", lost !== "" || onlyWeak || unknown.length > 0 || missing > 0);
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

const isFiltered = () => Boolean(state.root || state.folder || state.since || state.until);
const isByPhoto = () => Boolean(state.like) || state.upload !== "";

function order() {
  if (grid.hits[0].score == null) return "newest";
  return state.q.trim() ? "best match" : "most similar";
}

async function showNothing(answer) {
  const { photos, missing } = answer;
  if (!photos) message("No photos yet", "This index is empty. Add photos with “han index PHOTOS --out INDEX”; they appear here within seconds.", "Look again", retry);
  else if (missing) message("The photos cannot be searched now", "Their server is being replaced, which takes about a minute.", "Search again", retry);
  else {
    const { root, folder, since, until } = state;
    const { title, text, action, place } = await whyNothing(answer.parts, { root, folder, since, until }, isByPhoto());
    const act = () => (place < 0 ? change({ root: "", folder: "", since: "", until: "" }, { push: true }) : parts.remove(place));
    if (answer === answered) message(title, text, action, act), keepFocus();
  }
}

function showFailure(error, isFirst) {
  if (!isFirst) {
    $("status").textContent = error.message;
    $("more").hidden = !results.more;
    return;
  }
  const soon = Date.now() - typed.at < ERROR_DELAY ? ERROR_DELAY : 0;
  errorTimer = setTimeout(() => {
    clear();
    answered = null;
    $("status").textContent = "";
    parts.show("", []);
    if (isByPhoto() && !state.q.trim() && !isFiltered() && REFUSED.includes(error.status)) refusePhoto(error);
    else if (error.status === 422) message(state.q.trim() ? "Try other words" : "This search is not possible", error.message);
    else message("Something went wrong", error.message, "Try again", retry);
  }, soon);
}

// The photo itself is what cannot be searched with: the page goes on without it.
function refusePhoto(error) {
  byPhoto.forget(state.upload);
  state = { ...state, like: "", upload: "" };
  address.go(state, { push: false });
  const { photo, ...asked } = state;
  loadedFor = JSON.stringify(asked); // so that all photos do not take the place of the message
  render();
  loadedFor = null;
  message("This photo cannot be searched with", error.message, "Choose another photo", () => $("pick").click());
}

function retry() {
  loadedFor = null;
  render();
}

// A photo that the list does not have, such as one of a link, is looked up before the page makes room for it.
async function openPhoto(id) {
  if (opening === id) return;
  opening = id;
  try {
    const hit = grid.hits[grid.place(id)] ?? (await ask(`/api/photos/${encodeURIComponent(id)}`));
    if (state.photo === id) viewer.show(hit, { sentence: state.q.trim(), ...placeOf(id) });
  } catch (error) {
    if (state.photo !== id) return;
    change({ photo: "" }, { push: false });
    lost = error.status === 404 ? `The index has no photo “${id}”.` : error.message;
    if (answered) showStatus(answered);
  } finally {
    if (opening === id) opening = "";
  }
}

const placeOf = (id) => ({ place: grid.place(id), total });

async function moveViewer(step) {
  const place = grid.place(viewer.id) + step;
  if (place >= grid.hits.length) await loadMore();
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
  if (end < innerHeight * (1 + LOAD_AHEAD) && $("more").hidden) results.loadMore();
}

$("more").addEventListener("click", loadMore);
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
  if (matchMedia("(pointer: coarse)").matches) $("q").blur(); // the keyboard of the screen makes room for the photos
  loadedFor = null; // the same words are searched again
  change({ q: $("q").value, photo: "" }, { push: true });
});
$("grid").addEventListener("leave", () => $("q").focus());
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) (event.preventDefault(), $("q").focus(), $("q").select());
});
addEventListener("scroll", loadNearEnd, { passive: true });
addEventListener("resize", loadNearEnd, { passive: true });
addEventListener("focusin", ({ target }) => (focused = target));
addEventListener("popstate", () => {
  closing = false;
  restored = history.state?.shown ? history.state : null;
  state = address.read();
  $("q").value = state.q;
  render();
});

$("q").value = state.q;
render();
filters.load().then(() => answered && showStatus(answered)).catch(() => {}); // if the server does not respond, the photos show the error
