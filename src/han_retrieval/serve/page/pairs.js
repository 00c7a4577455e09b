// Why two photos are alike: pairs of regions in matching colours and numbers, on the opened photo and on the other.
import { alike } from "./api.js";
import { make } from "./evidence.js";

const $ = (id) => document.getElementById(id);

// `photo` holds the opened photo; `likeness` is the response of /api/photos/ID/similar/ID, `source` the other photo's address.
export function showPairs(photo, likeness, source) {
  hidePairs(photo);
  const { pairs, width, height, other_width, other_height } = likeness;
  const image = new Image(width, height);
  image.alt = "The photo that this one is like";
  image.src = source;
  image.addEventListener("error", () => $("like-photo").replaceChildren()); // of a format that browsers do not show
  $("like-photo").style.setProperty("--ratio", width / height);
  $("like-photo").replaceChildren(image, ...boxes(pairs, pairs.map(({ box }) => box), width, height));
  photo.append(...boxes(pairs, pairs.map(({ other_box }) => other_box), other_width, other_height));
  $("pair-chips").replaceChildren(...pairs.map(chip));
  const { text, title } = alike(likeness);
  $("like-text").textContent = text;
  $("like-text").title = title;
  $("like").hidden = false;
  const parts = [...photo.querySelectorAll("[data-pair]"), ...$("like").querySelectorAll("[data-pair]")];
  const light = (pair) => parts.forEach((part) => part.style.setProperty("--on", pair == null || part.dataset.pair === pair ? 1 : 0.15));
  for (const part of parts) {
    for (const event of ["pointerenter", "focus", "click"]) part.addEventListener(event, () => light(part.dataset.pair));
    for (const event of ["pointerleave", "blur"]) part.addEventListener(event, () => light(null));
  }
  light(null);
}

export function hidePairs(photo) {
  for (const part of photo.querySelectorAll(".pairs")) part.remove();
  $("like").hidden = true;
  $("like-photo").replaceChildren();
  $("pair-chips").replaceChildren();
}

// Rectangles, and their numbers above them.
function boxes(pairs, places, width, height) {
  const svg = make("svg", { class: "regions pairs", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": true });
  const tags = document.createElement("div");
  tags.className = "tags pairs";
  tags.setAttribute("aria-hidden", "true");
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const order = places.map((_, pair) => pair).sort((a, b) => area(places[b]) - area(places[a])); // small ones on top
  for (const pair of order) {
    const [x, y, x1, y1] = places[pair];
    const group = make("g", { class: "shown", "data-pair": pair, tabindex: -1 });
    const rectangle = { x, y, width: x1 - x, height: y1 - y, rx: 2 };
    group.append(make("rect", { class: "halo", ...rectangle }), make("rect", { class: "edge", ...rectangle }));
    const tag = document.createElement("span");
    tag.textContent = pair + 1;
    tag.dataset.pair = pair;
    tag.style.left = `${(100 * Math.max(0, x)) / width}%`;
    tag.style.top = `${(100 * Math.max(0, y)) / height}%`;
    for (const part of [group, tag]) part.style.setProperty("--colour", pairs[pair].colour);
    svg.append(group);
    tags.append(tag);
  }
  return [svg, tags];
}

function chip({ cosine, colour }, pair) {
  const chip = document.createElement("button");
  const number = document.createElement("small");
  number.textContent = cosine.toFixed(2);
  chip.type = "button";
  chip.className = "chip";
  chip.dataset.pair = pair;
  chip.append(pair + 1, number);
  chip.style.setProperty("--colour", colour);
  chip.style.setProperty("--strength", 1);
  chip.setAttribute("aria-label", `Regions ${pair + 1} of both photos, cosine ${cosine.toFixed(2)}`);
  return chip;
}
