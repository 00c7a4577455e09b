// Photos in rows of equal height that fill the page's width. Sizes are known beforehand, so nothing moves while photos load.
import { alike, day, fit, month, thumbnail } from "./api.js";

export class Grid {
  // `address(hit)` returns the address of a photo; `open(place)` is called when a photo is opened. Photos that were found
  // by a photo alone, `isAlike()`, say how like they are.
  constructor(list, { address, open, isAlike = () => false }) {
    Object.assign(this, { list, address, open, isAlike, hits: [], tiles: [], headings: new Map() });
    new ResizeObserver(() => list.clientWidth === this.width || requestAnimationFrame(() => this.layOut())).observe(list);
    list.addEventListener("click", (event) => this.#click(event));
    list.addEventListener("keydown", (event) => this.#move(event));
  }

  clear() {
    this.hits = [];
    this.tiles = [];
    this.headings = new Map(); // by the place of the photo below
    this.list.replaceChildren();
    this.layOut();
  }

  // Photos that are shown already are skipped.
  add(hits) {
    const there = new Set(this.hits.map((hit) => hit.id));
    for (const hit of hits.filter((each) => !there.has(each.id))) {
      const above = this.#heading(hit, this.hits.at(-1));
      if (above) this.headings.set(this.hits.length, above);
      const tile = this.#tile(hit, this.hits.length);
      this.hits.push(hit);
      this.tiles.push(tile);
      this.list.append(tile);
    }
    this.layOut();
  }

  place(id) {
    return this.hits.findIndex((hit) => hit.id === id);
  }

  focus(place) {
    const link = this.tiles[place]?.firstElementChild;
    if (!link) return;
    this.#reach(place);
    link.focus();
  }

  layOut() {
    const width = (this.width = this.list.clientWidth);
    const narrow = width < 640;
    const [tall, gap] = narrow ? [140, 6] : [Math.min(280, 150 + width / 12), 10];
    const ratios = this.hits.map((hit) => Math.min(3.2, Math.max(0.45, hit.width / hit.height)));
    const ends = [...this.headings.keys(), ratios.length].reverse();
    let top = 0;
    for (let start = 0, end; start < ratios.length; start = end) {
      const heading = this.headings.get(start);
      if (heading) {
        heading.style.top = `${top}px`;
        top += heading.offsetHeight;
      }
      while (ends.at(-1) <= start) ends.pop();
      const last = ends.at(-1);
      let across = 0;
      for (end = start; end < last && across * tall + gap * (end - start - 1) < width; end++) across += ratios[end];
      const room = width - gap * (end - start - 1);
      const full = across * tall >= room;
      const height = full ? room / across : Math.min(tall, room / across);
      let left = 0;
      for (let place = start; place < end; place++) {
        const { style } = this.tiles[place];
        style.left = `${left}px`;
        style.top = `${top}px`;
        style.width = `${ratios[place] * height}px`;
        style.height = `${height}px`;
        left += ratios[place] * height + gap;
      }
      top += height + gap;
    }
    this.list.style.height = `${Math.max(0, top - gap)}px`;
  }

  // The line above a photo: between better matches and the first weak one, and before each month of a list by date.
  #heading(hit, before) {
    let text = "";
    if (hit.match) text = hit.match === "weak" && before && before.match !== "weak" && !this.headings.size ? "Weaker matches" : "";
    else if (hit.score == null && (before ? month(hit) !== month(before) : hit.date)) text = month(hit);
    if (!text) return null;
    const heading = document.createElement("li");
    heading.className = "heading";
    heading.textContent = text;
    this.list.append(heading);
    return heading;
  }

  // Whether the last photos are weak matches, so that more of them are worth little.
  get isWeak() {
    return this.hits.at(-1)?.match === "weak";
  }

  #tile(hit, place) {
    const tile = document.createElement("li");
    const link = document.createElement("a");
    const image = document.createElement("img");
    link.href = this.address(hit);
    link.tabIndex = place ? -1 : 0;
    link.dataset.place = place;
    const said = hit.match ? { ...fit(hit), badge: hit.match } : this.isAlike() && alike(hit);
    link.setAttribute("aria-label", [hit.name, hit.date && day(hit.date), said && said.text].filter(Boolean).join(", "));
    image.alt = "";
    image.loading = "lazy";
    image.decoding = "async";
    image.addEventListener("load", () => link.classList.add("loaded"));
    image.addEventListener("error", () => link.classList.add("gone"));
    image.src = thumbnail(hit.id);
    link.append(image);
    if (said) {
      const badge = document.createElement("span");
      badge.className = `badge ${hit.match ?? ""}`;
      badge.title = said.title;
      badge.textContent = said.badge;
      link.append(badge);
    }
    tile.append(link);
    return tile;
  }

  #click(event) {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.open(Number(link.dataset.place));
  }

  #move(event) {
    const here = Number(event.target.dataset?.place);
    const place = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: this.tiles.length - 1, ArrowUp: this.#beside(here, -1), ArrowDown: this.#beside(here, 1) }[event.key];
    if (place === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (place >= 0 && place < this.tiles.length) this.focus(place);
    else if (place < 0 && event.key === "ArrowUp") this.list.dispatchEvent(new CustomEvent("leave"));
  }

  // The photo in the row above or below whose middle is nearest; -1 above the first row, this one below the last.
  #beside(here, direction) {
    const middle = (tile) => tile.offsetLeft + tile.offsetWidth / 2;
    const from = this.tiles[here];
    if (!from) return -1;
    let row;
    let best = direction < 0 ? -1 : here;
    for (let place = here + direction; this.tiles[place]; place += direction) {
      const tile = this.tiles[place];
      if (tile.offsetTop === from.offsetTop) continue;
      row ??= tile.offsetTop;
      if (tile.offsetTop !== row) break;
      const nearer = best === here || best < 0 || Math.abs(middle(tile) - middle(from)) < Math.abs(middle(this.tiles[best]) - middle(from));
      if (nearer) best = place;
    }
    return best;
  }

  // Tab goes to one photo, arrow keys from there to the others.
  #reach(place) {
    this.list.querySelector("a[tabindex='0']")?.setAttribute("tabindex", "-1");
    this.tiles[place].firstElementChild.tabIndex = 0;
  }
}
