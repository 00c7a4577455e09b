// What a query is made of, as chips that can be removed, and a field for what photos shall not have.
import { thumbnail } from "./api.js";
import { textOf } from "./query.js";

const $ = (id) => document.getElementById(id);

export class Parts {
  // `changed(query)` is called with the new text of the query; `isCurrent(query)` says whether the person typed on since.
  constructor({ changed, isCurrent }) {
    Object.assign(this, { changed, isCurrent, query: "", parts: [] });
    $("leave-out").addEventListener("click", () => this.#open($("not").hidden));
    $("not").addEventListener("submit", (event) => (event.preventDefault(), this.#leaveOut()));
    $("not-words").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      this.#open(false);
      $("leave-out").focus();
    });
  }

  // The parts of a query that was answered; none for one that was not.
  show(query, parts) {
    Object.assign(this, { query, parts });
    const several = parts.length > 1 || parts.some(({ sentence, weight }) => sentence == null || weight !== 1);
    $("leave-out").hidden = !parts.some(asks);
    if ($("leave-out").hidden) this.#open(false);
    $("parts").hidden = !parts.length;
    const focused = $("parts").contains(document.activeElement) && document.activeElement;
    $("part-chips").hidden = !several;
    $("part-chips").replaceChildren(...(several ? parts.map((part, place) => this.#chip(part, place)) : []));
    if (focused && !parts.length) $("q").focus();
    else if (focused && !focused.isConnected) ($("part-chips").querySelectorAll("button")[this.removed] ?? this.#after()).focus();
  }

  #after() {
    return $("leave-out").hidden ? $("q") : $("leave-out");
  }

  #chip(part, place) {
    const { sentence, photo, written, id, weight } = part;
    const chip = document.createElement("li");
    const against = weight < 0;
    chip.className = against ? "part-chip against" : "part-chip";
    if (id) {
      const image = new Image();
      image.alt = "";
      image.src = thumbnail(id);
      chip.append(image);
    }
    const text = document.createElement("span");
    const size = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)} × `;
    const name = sentence ?? (written ? `text: ${written}` : photo === "upload" ? "your photo" : photo.split("/").at(-1));
    text.textContent = (against ? "not " : "") + size + name;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove “${text.textContent}”`);
    remove.textContent = "×";
    remove.addEventListener("click", () => this.remove(place));
    chip.append(text, remove);
    return chip;
  }

  remove(place) {
    const left = this.parts.filter((_, other) => other !== place);
    const kept = left.some(asks) ? left : left.filter(({ written }) => written); // nothing can be left out of nothing
    this.removed = place; // where the focus goes when the others are shown
    this.#change(textOf(kept));
  }

  #leaveOut() {
    const words = $("not-words").value.replace(/["“”„‟]/g, "").trim();
    if (words && !this.#change(textOf([...this.parts, { sentence: words, weight: -1 }]))) return;
    this.#open(false);
    $("leave-out").focus();
  }

  #change(query) {
    if (!this.isCurrent(this.query)) return false; // these are the parts of an earlier query
    this.changed(query);
    return true;
  }

  #open(whether) {
    $("not").hidden = !whether;
    $("leave-out").setAttribute("aria-expanded", whether);
    $("not-words").value = "";
    if (whether) $("not-words").focus();
  }
}

// Whether a part says what photos shall show.
const asks = ({ written, weight }) => !written && weight > 0;
