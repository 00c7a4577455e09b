// One photo in full size, with the evidence for a query.
import { ask, day, fit, original, picture, thumbnail, viewed } from "./api.js";
import { hideEvidence, showEvidence } from "./evidence.js";
import { hidePairs, showPairs } from "./pairs.js";
import { Zoom } from "./zoom.js";

const $ = (id) => document.getElementById(id);
const LARGEST = 2048; // pixels of what is shown before the original
const PAUSE = 250; // ms without typing before the evidence is loaded

export class Viewer {
  // Calls `closed()`, `moved(step)` and `similar(id)` when the person asks for it. `likeness(id)` says what to ask for to
  // compare a photo with the one that was searched with, null where there is none.
  constructor({ closed, moved, similar, likeness }) {
    this.dialog = $("viewer");
    this.asking = null;
    this.likeness = likeness;
    this.zoom = new Zoom($("photo"), { changed: (scale) => this.#zoomed(scale), scroller: this.dialog });
    $("zoom").addEventListener("click", () => this.zoom.toggle());
    $("close").addEventListener("click", closed);
    $("similar").addEventListener("click", () => similar(this.hit.id));
    $("previous").addEventListener("click", () => moved(-1));
    $("next").addEventListener("click", () => moved(1));
    $("copy").addEventListener("click", () => this.#copy());
    this.#swipe(moved);
    this.dialog.addEventListener("cancel", (event) => (event.preventDefault(), closed()));
    this.dialog.addEventListener("close", closed); // browsers close it themselves when Escape is pressed twice
    // On the document: what had the focus may be gone with the photo before, and then keys come from its body.
    document.addEventListener("keydown", (event) => {
      if (!this.dialog.open || event.target.tagName === "INPUT" || event.altKey || event.ctrlKey || event.metaKey) return;
      const act = this.#keys(moved)[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
    $("ask").addEventListener("submit", (event) => (event.preventDefault(), this.#explain()));
    $("sentence").addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.#explain(), PAUSE);
    });
  }

  get id() {
    return this.dialog.open ? this.hit?.id : undefined;
  }

  // `hit` is the photo of a list, or all that is known of it; `place` its position among `total` photos, -1 if it is not
  // loaded yet.
  async show(hit, { sentence, place, total }) {
    const { id } = hit;
    this.hit = hit;
    this.path = "";
    this.searched = sentence;
    $("sentence").value = sentence;
    this.count({ place, total });
    $("viewer-name").textContent = hit.name;
    $("facts").textContent = "";
    $("copy").hidden = $("open").hidden = true;
    $("download").href = original(id);
    this.#hide();
    this.#draw(hit);
    if (!this.dialog.open) {
      this.dialog.showModal();
      $("close").focus({ focusVisible: false });
    }
    this.dialog.scrollTop = 0;
    await Promise.all([this.#describe(id), this.#explain()]);
  }

  count({ place, total }) {
    $("place").textContent = place < 0 ? "" : `${place + 1} of ${total.toLocaleString()}`;
    $("previous").disabled = place <= 0;
    $("next").disabled = place < 0 || place === total - 1;
  }

  close() {
    this.asking?.abort();
    this.dialog.close();
  }

  // What keys do: those of the arrows move a photo that is zoomed.
  #keys(moved) {
    const { zoom } = this;
    const larger = () => zoom.by(1.5);
    const keys = { "+": larger, "=": larger, "-": () => zoom.by(1 / 1.5), 0: () => zoom.reset() };
    if (zoom.scale === 1) return { ...keys, ArrowLeft: () => moved(-1), ArrowRight: () => moved(1) };
    return { ...keys, ArrowLeft: () => zoom.move(0.2, 0), ArrowRight: () => zoom.move(-0.2, 0), ArrowUp: () => zoom.move(0, 0.2), ArrowDown: () => zoom.move(0, -0.2) };
  }

  #zoomed(scale) {
    $("zoom").setAttribute("aria-pressed", scale > 1);
    $("zoom").setAttribute("aria-label", scale > 1 ? "Show the whole photo" : "Zoom in");
    const image = $("photo").querySelector("img");
    const address = viewed(this.hit.id, this.path ?? "");
    if (scale === 1 || !image || !address || image.dataset.sharp || Math.max(this.hit.width, this.hit.height) <= LARGEST) return;
    image.dataset.sharp = true;
    const whole = new Image();
    whole.addEventListener("load", () => (image.src = whole.src));
    whole.src = address;
  }

  async #copy() {
    await navigator.clipboard.writeText(this.path);
    $("copy").textContent = "Copied";
  }

  // A finger that moves to a side takes the next photo or the one before.
  #swipe(moved) {
    let from = null;
    $("photo").addEventListener("touchstart", ({ touches }) => (from = touches.length === 1 && this.zoom.scale === 1 ? touches[0] : null), { passive: true });
    $("photo").addEventListener("touchend", ({ changedTouches: [to] }) => {
      const across = from ? to.clientX - from.clientX : 0;
      if (Math.abs(across) > 60 && Math.abs(across) > 2 * Math.abs(to.clientY - from.clientY)) moved(across < 0 ? 1 : -1);
      from = null;
    });
  }

  #draw({ id, width, height, name }) {
    const photo = $("photo");
    const image = new Image(width, height);
    image.alt = name;
    image.style.backgroundImage = `url("${thumbnail(id)}")`; // which is cached, until the large one has loaded
    image.addEventListener("error", () => image.isConnected && photo.classList.add("gone"));
    photo.classList.remove("gone");
    this.zoom.reset();
    photo.style.setProperty("--ratio", width / height);
    photo.replaceChildren(image);
    image.src = picture(id);
  }

  async #describe(id) {
    try {
      const facts = await ask(`/api/photos/${id}`);
      if (this.hit.id !== id) return;
      $("viewer-name").textContent = facts.name;
      const parts = [facts.text?.replaceAll("\n", " · "), facts.place, facts.date && day(facts.date), facts.camera, `${facts.width} × ${facts.height}`, bytes(facts.size), facts.path];
      if (facts.copies.length) parts.push(`${facts.copies.length} ${facts.copies.length === 1 ? "copy" : "copies"}`);
      $("facts").textContent = parts.filter(Boolean).join(" · ");
      this.path = facts.path;
      const address = viewed(id, facts.path);
      $("open").hidden = !address;
      if (address) $("open").href = address;
      $("copy").hidden = !navigator.clipboard; // which browsers have on this machine and over HTTPS
      $("copy").textContent = "Copy the path";
    } catch (error) {
      if (this.hit.id === id) $("facts").textContent = error.message;
    }
  }

  async #explain() {
    clearTimeout(this.timer);
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    const { id } = this.hit;
    const sentence = $("sentence").value.trim();
    const wanted = sentence ? { path: `/api/photos/${id}/evidence`, params: { q: sentence } } : this.likeness(id);
    if (!wanted) return this.#hide();
    try {
      let evidence = await ask(wanted.path, { ...wanted, signal: asking.signal });
      if (asking !== this.asking) return;
      const isBare = sentence && !evidence.parts.length; // of photos, or of text: alone
      const pairs = isBare ? this.likeness(id) : sentence ? null : wanted;
      if (pairs && isBare) evidence = await ask(pairs.path, { ...pairs, signal: asking.signal });
      if (asking !== this.asking) return;
      this.#hide();
      if (pairs) return showPairs($("photo"), evidence, pairs.source);
      if (!isBare) showEvidence($("figure"), evidence);
      else if (!evidence.photos.length) return;
      const fits = fit(this.hit.match && sentence === this.searched ? this.hit : evidence); // as in the list, which may be filtered
      $("explained").textContent = `${fits ? `${fits.text} · ` : ""}score ${evidence.score.toFixed(3)}`;
      $("explained").title = fits?.title ?? "";
    } catch (error) {
      if (asking !== this.asking) return;
      this.#hide();
      $("explained").textContent = error.message;
    }
  }

  #hide() {
    hideEvidence($("figure"));
    hidePairs($("photo"));
    $("explained").textContent = $("explained").title = "";
  }
}

function bytes(size) {
  return size < 1e6 ? `${Math.max(1, Math.round(size / 1e3))} kB` : `${(size / 1e6).toFixed(1)} MB`;
}
