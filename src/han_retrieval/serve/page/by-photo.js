// Search with a photo that is dropped, pasted or chosen, or one of the index: similar photos, and sentences for it.
import { ask, picture, thumbnail } from "./api.js";

const $ = (id) => document.getElementById(id);

export class ByPhoto {
  // `chosen(number)` is called with the number of a new file, which `file(number)` returns; `closed()` when the photo is closed.
  constructor({ chosen, closed }) {
    Object.assign(this, { chosen, files: new Map(), shown: null, asking: null });
    $("pick").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => this.#take($("file").files));
    $("close-photo").addEventListener("click", closed);
    $("rank").addEventListener("submit", (event) => (event.preventDefault(), this.#rank()));
    addEventListener("paste", ({ target, clipboardData: { files, types } }) => {
      // Cells of a spreadsheet come as text and as a picture of them.
      const isText = types.includes("text/plain") && types.includes("text/html");
      if (!isText || !target.closest?.("input, textarea")) this.#take(files);
    });
    let inside = 0;
    const drag = (event) => event.dataTransfer?.types.includes("Files") && !event.preventDefault();
    const show = (whether) => ($("drop").hidden = !whether);
    addEventListener("dragenter", (event) => drag(event) && (inside++, show(true)));
    addEventListener("dragover", drag);
    addEventListener("dragleave", (event) => drag(event) && !--inside && show(false));
    addEventListener("drop", (event) => {
      if (!drag(event)) return;
      inside = 0;
      show(false);
      this.#take(event.dataTransfer.files);
    });
  }

  file(number) {
    return this.files.get(number);
  }

  // Forget a file that cannot be searched with, so that the way back through the history does not lead to it.
  forget(number) {
    this.files.delete(number);
  }

  // Another photo's likeness to the shown one: what to ask for, and the address of the shown one.
  likeness(id) {
    if (!this.shown) return null;
    if (!this.url) return { path: `/api/photos/${encodeURIComponent(this.shown)}/similar/${encodeURIComponent(id)}`, source: picture(this.shown) };
    const body = new FormData();
    body.set("photo", this.sent);
    return { path: `/api/similar/${encodeURIComponent(id)}`, body, source: this.url };
  }

  // The photo to search with: a file's number, a photo's id, or neither.
  show({ upload, like }) {
    const key = upload === "" ? like : `upload ${upload}`;
    if (key === this.shown) return;
    this.shown = key;
    this.asking?.abort();
    $("by-photo").hidden = !key;
    $("ranked").replaceChildren();
    $("rank-status").textContent = "";
    if (this.url) URL.revokeObjectURL(this.url);
    this.sent = this.file(upload);
    this.url = upload === "" ? null : URL.createObjectURL(this.file(upload));
    $("by-photo-image").replaceChildren();
    if (!key) return;
    const image = new Image();
    image.alt = upload === "" ? "The photo to search with" : this.file(upload).name;
    image.addEventListener("error", () => image.replaceWith(image.alt)); // of a format that browsers do not show, or no photo
    image.src = this.url ?? thumbnail(like);
    $("by-photo-image").append(image);
    this.body = () => {
      const body = new FormData();
      if (upload === "") body.set("id", like);
      else body.set("photo", this.file(upload));
      return body;
    };
  }

  #take(files) {
    if (!files.length) return;
    const number = Date.now(); // not a number of an earlier visit, which the history still has
    this.files.set(number, files[0]);
    $("file").value = "";
    this.chosen(number);
  }

  async #rank() {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    const body = this.body();
    body.set("sentences", $("sentences").value);
    $("rank-status").textContent = "…";
    try {
      const { captions, left_out } = await ask("/api/captions", { body, signal: asking.signal });
      $("ranked").replaceChildren(...captions.map(line));
      $("rank-status").textContent = left_out.length ? `Left out, because the model knows too few of their words: ${left_out.map((each) => `“${each}”`).join(", ")}` : "";
    } catch (error) {
      if (error.name !== "AbortError") $("rank-status").textContent = error.message;
    }
  }
}

function line({ sentence, score, match }) {
  const item = document.createElement("li");
  const value = document.createElement("span");
  value.className = "value";
  value.textContent = match ?? score.toFixed(2);
  value.title = `score ${score.toFixed(3)}`;
  item.style.setProperty("--share", Math.max(0, Math.min(1, score)));
  item.append(sentence, value);
  return item;
}
