// One photo in full size, with the evidence for a query.
import { ask, day, fit, original, picture, thumbnail } from "./api.js";
import { hideEvidence, showEvidence } from "./evidence.js";

const $ = (id) => document.getElementById(id);
const PAUSE = 250; // ms without typing before the evidence is loaded

export class Viewer {
  // Calls `closed()`, `moved(step)` and `similar(id)` when the person asks for it.
  constructor({ closed, moved, similar }) {
    this.dialog = $("viewer");
    this.asking = null;
    $("close").addEventListener("click", closed);
    $("similar").addEventListener("click", () => similar(this.hit.id));
    $("previous").addEventListener("click", () => moved(-1));
    $("next").addEventListener("click", () => moved(1));
    $("copy").addEventListener("click", () => this.#copy());
    this.#swipe(moved);
    this.dialog.addEventListener("cancel", (event) => (event.preventDefault(), closed()));
    this.dialog.addEventListener("close", closed); // browsers close it themselves when Escape is pressed twice
    this.dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || event.target.tagName === "INPUT" || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      moved(step);
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

  // `place` is the photo's position among `total` photos, -1 if it is not loaded yet.
  async show(id, { hit, sentence, place, total }) {
    this.hit = hit ?? { id };
    $("sentence").value = sentence;
    this.count({ place, total });
    $("viewer-name").textContent = this.hit.name ?? "";
    $("facts").textContent = "";
    $("copy").hidden = true;
    $("download").href = original(id);
    hideEvidence($("figure"));
    $("explained").textContent = "";
    if (hit) this.#draw(hit);
    else $("photo").replaceChildren();
    if (!this.dialog.open) {
      this.dialog.showModal();
      $("close").focus({ focusVisible: false });
    }
    this.dialog.scrollTop = 0;
    await Promise.all([this.#describe(id, !hit), this.#explain()]);
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

  async #copy() {
    await navigator.clipboard.writeText(this.path);
    $("copy").textContent = "Copied";
  }

  // A finger that moves to a side takes the next photo or the one before.
  #swipe(moved) {
    let from = null;
    $("photo").addEventListener("touchstart", ({ touches }) => (from = touches.length === 1 ? touches[0] : null), { passive: true });
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
    image.addEventListener("error", () => photo.classList.add("gone"));
    photo.classList.remove("gone");
    photo.style.setProperty("--ratio", width / height);
    photo.replaceChildren(image);
    image.src = picture(id);
  }

  async #describe(id, draw) {
    try {
      const facts = await ask(`/api/photos/${id}`);
      if (this.hit.id !== id) return;
      if (draw) this.#draw(facts);
      $("viewer-name").textContent = facts.name;
      const parts = [facts.text?.replaceAll("\n", " · "), facts.place, facts.date && day(facts.date), facts.camera, `${facts.width} × ${facts.height}`, bytes(facts.size), facts.path];
      if (facts.copies.length) parts.push(`${facts.copies.length} ${facts.copies.length === 1 ? "copy" : "copies"}`);
      $("facts").textContent = parts.filter(Boolean).join(" · ");
      this.path = facts.path;
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
    const sentence = $("sentence").value.trim();
    if (!sentence) {
      hideEvidence($("figure"));
      $("explained").textContent = "";
      return;
    }
    try {
      const evidence = await ask(`/api/photos/${this.hit.id}/evidence`, { params: { q: sentence }, signal: asking.signal });
      if (asking !== this.asking) return;
      showEvidence($("figure"), evidence);
      const fits = fit(evidence);
      $("explained").textContent = `${fits ? `${fits.text} · ` : ""}score ${evidence.score.toFixed(3)}`;
      $("explained").title = fits?.title ?? "";
    } catch (error) {
      if (asking !== this.asking) return;
      hideEvidence($("figure"));
      $("explained").textContent = error.message;
    }
  }
}

function bytes(size) {
  return size < 1e6 ? `${Math.max(1, Math.round(size / 1e3))} kB` : `${(size / 1e6).toFixed(1)} MB`;
}
