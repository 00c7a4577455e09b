// Zoom into an opened photo and move it: wheel, pinch, double click, drag. All that lies on the photo goes with it.
const MOST = 8;
const CLOSE = 2.5; // what a double click zooms to
const MOVED = 4; // pixels from which on a press is no click
const TWICE = 350; // ms between the clicks of a double click
const STILL = 400; // ms without scrolling after which the wheel zooms

export class Zoom {
  // `box` has the photo and what lies on it as children; `changed(scale)` is called when the scale has changed.
  constructor(box, { changed, scroller }) {
    Object.assign(this, { box, changed, scale: 1, x: 0, y: 0, fingers: new Map(), last: { at: 0, x: 0, y: 0 }, scrolled: 0, wheeled: 0 });
    scroller.addEventListener("scroll", () => (this.scrolled = performance.now()), { passive: true });
    box.addEventListener("wheel", (event) => this.#wheel(event, scroller), { passive: false });
    box.addEventListener("pointerdown", (event) => this.#down(event));
    addEventListener("pointermove", (event) => this.#move(event)); // also beside the box, where a quick drag goes
    for (const event of ["pointerup", "pointercancel"]) addEventListener(event, (its) => this.#up(its));
    box.addEventListener("dragstart", (event) => this.scale > 1 && event.preventDefault());
    for (const event of ["touchstart", "touchmove"]) {
      box.addEventListener(event, (its) => its.touches.length > 1 && its.cancelable && its.preventDefault(), { passive: false });
    }
    addEventListener("resize", () => this.#to(this.scale, this.x, this.y));
  }

  reset() {
    this.#to(1, 0, 0);
  }

  // Into the photo, or back to the whole of it.
  toggle(point) {
    if (this.scale > 1) this.reset();
    else this.by(CLOSE, point);
  }

  // So many times larger; `point` of the window, by default the photo's middle, stays where it is.
  by(factor, point) {
    const { left, top, width, height } = this.box.getBoundingClientRect();
    const [x, y] = point ? [point.x - left, point.y - top] : [width / 2, height / 2];
    const scale = Math.min(MOST, Math.max(1, this.scale * factor));
    const grown = scale / this.scale;
    this.#to(scale, x - grown * (x - this.x), y - grown * (y - this.y));
  }

  // By shares of the box.
  move(across, down) {
    this.#to(this.scale, this.x + across * this.box.clientWidth, this.y + down * this.box.clientHeight);
  }

  #to(scale, x, y) {
    const { clientWidth, clientHeight, style, classList } = this.box;
    const before = this.scale;
    this.scale = scale < 1.01 ? 1 : scale;
    this.x = Math.min(0, Math.max(clientWidth * (1 - this.scale), x));
    this.y = Math.min(0, Math.max(clientHeight * (1 - this.scale), y));
    style.setProperty("--zoom", this.scale);
    style.setProperty("--x", `${this.x}px`);
    style.setProperty("--y", `${this.y}px`);
    classList.toggle("zoomed", this.scale > 1);
    if (this.scale !== before) this.changed(this.scale);
  }

  // The wheel scrolls the page where there is something to scroll to, unless the photo is zoomed already.
  #wheel(event, scroller) {
    const now = performance.now();
    const inwards = event.deltaY < 0;
    const scrolls = this.scale === 1 && (!inwards || scroller.scrollTop > 0 || now - this.scrolled < STILL);
    if (!event.ctrlKey && scrolls && now - this.wheeled > STILL) return;
    event.preventDefault();
    this.wheeled = now;
    const pixels = event.deltaY * (event.deltaMode ? 16 : 1);
    this.by(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), { x: event.clientX, y: event.clientY });
  }

  #down(event) {
    if (event.button) return;
    this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.pressed = this.fingers.size === 1 ? { x: event.clientX, y: event.clientY } : null;
  }

  #move(event) {
    const from = this.fingers.get(event.pointerId);
    if (!from) return;
    const to = { x: event.clientX, y: event.clientY };
    if (this.pressed && distance(this.pressed, to) > MOVED) this.pressed = null;
    const other = [...this.fingers].find(([id]) => id !== event.pointerId)?.[1];
    this.fingers.set(event.pointerId, to);
    if (other) this.by(distance(other, to) / Math.max(1, distance(other, from)), { x: (other.x + to.x) / 2, y: (other.y + to.y) / 2 });
    else if (this.scale > 1 && !this.pressed) this.#to(this.scale, this.x + to.x - from.x, this.y + to.y - from.y);
  }

  #up(event) {
    if (!this.fingers.delete(event.pointerId)) return;
    if (event.type !== "pointerup" || !this.pressed) return;
    const here = { at: performance.now(), x: event.clientX, y: event.clientY };
    const twice = here.at - this.last.at < TWICE && distance(here, this.last) < 30;
    this.last = twice ? { at: 0, x: 0, y: 0 } : here;
    this.pressed = null;
    if (twice) this.toggle(here);
  }
}

const distance = (one, other) => Math.hypot(one.x - other.x, one.y - other.y);
