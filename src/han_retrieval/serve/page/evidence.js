// The evidence for a photo and a query: regions as rectangles over the photo, words as chips in their regions' colours.
import { lightUp } from "./light.js";

const GREY = "#b0b4ba";

// `figure` holds a .photo, a .chips and a .hint; `evidence` is the response of /api/photos/ID/evidence.
export function showEvidence(figure, evidence) {
  hideEvidence(figure);
  if (!evidence.parts.length) return; // a query of photos alone
  const colours = new Map(evidence.shown.map(({ region, colour }) => [region, colour]));
  const parts = evidence.parts.map((part) => ({ ...part, colours, strengths: strengths(part) }));
  figure.dataset.alignment = JSON.stringify(parts.flatMap((part) => part.alignment)); // a row for each chip
  figure.querySelector(".photo").append(regions(parts, colours));
  const plain = parts.length === 1 && parts[0].weight === 1;
  figure.querySelector(".chips").append(...(plain ? chips(parts[0]) : parts.map(row)));
  figure.querySelector(".hint").hidden = false;
  lightUp(figure);
}

export function hideEvidence(figure) {
  for (const part of figure.querySelectorAll(".regions, .tags")) part.remove();
  figure.querySelector(".chips").replaceChildren();
  figure.querySelector(".hint").hidden = true;
}

// Opacity of each word's colour: from 0.3 to 1 by its greatest alignment weight, relative to the part's greatest.
function strengths({ alignment }) {
  const weights = alignment.map((row) => Math.max(...row));
  return weights.map((weight) => 0.3 + (0.7 * weight) / Math.max(...weights));
}

// Small regions lie on top of large ones. Those without a colour are hidden until a word that is aligned with them is pointed at.
function regions(parts, colours) {
  const { boxes, width, height } = parts[0]; // the same in all parts
  const words = parts.flatMap(({ words, strengths }) => words.map((word, i) => ({ ...word, strength: strengths[i] })));
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const order = boxes.map((_, region) => region).sort((a, b) => area(boxes[b]) - area(boxes[a]));
  const svg = make("svg", { class: "regions", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" });
  for (const region of order) {
    const [x, y, x1, y1] = boxes[region];
    const its = words.filter((word) => word.known && word.region === region);
    const group = make("g", { class: colours.has(region) ? "shown" : "unseen", "data-region": region, "data-strength": Math.max(0, ...its.map((word) => word.strength)) });
    group.style.setProperty("--colour", colours.get(region) ?? GREY);
    const box = { x, y, width: x1 - x, height: y1 - y, rx: 2 };
    const reach = colours.has(region)
      ? { tabindex: -1, role: "img", "aria-label": `region aligned with ${its.map(({ word }) => word).join(", ")}` }
      : { "aria-hidden": true };
    group.append(make("rect", { class: "halo", ...box }), make("rect", { class: "edge", ...box, ...reach }));
    svg.append(group);
  }
  return svg;
}

// A part of a query: its sign and weight, its words, its score.
function row(part) {
  const { sentence, weight, score } = part;
  const against = weight < 0;
  const size = Math.abs(weight);
  const row = document.createElement("div");
  row.className = against ? "part against" : "part";
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", `${sentence}: counts ${against ? "against" : "for"} the photo${size === 1 ? "" : `, ${size} times`}, score ${score.toFixed(3)}`);
  const sign = document.createElement("span");
  sign.className = "sign";
  sign.title = against ? "Counts against the photo" : "Counts for the photo";
  sign.textContent = (against ? "−" : "+") + (size === 1 ? "" : ` ${size} ×`);
  const own = document.createElement("span");
  own.className = "own";
  own.textContent = score.toFixed(3);
  row.append(sign, ...chips(part), own);
  return row;
}

function chips({ words, phrases, colours, strengths }) {
  return phrases.map(({ start, end }) => {
    const phrase = document.createElement("span");
    phrase.className = "phrase";
    for (let i = start; i < end; i++) {
      const { word, known, function: isFunction, match, region, weight } = words[i];
      const chip = document.createElement("button");
      const fit = document.createElement("small");
      fit.textContent = known ? match.toFixed(2) : "?";
      chip.type = "button";
      chip.className = `chip${known ? "" : " unknown"}${isFunction ? " function" : ""}`;
      chip.append(word, fit);
      chip.style.setProperty("--colour", colours.get(region) ?? GREY);
      chip.style.setProperty("--strength", strengths[i]);
      const share = Math.round(100 * weight);
      chip.setAttribute("aria-label", `${word}, ${known ? `match ${match.toFixed(2)}, ${share}% of its alignment is on one region` : "the model does not know it"}`);
      phrase.append(chip);
    }
    return phrase;
  });
}

// An SVG element.
export function make(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
