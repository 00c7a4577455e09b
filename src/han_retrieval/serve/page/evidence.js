// Why a photo matches: its regions as rectangles over it, the sentence's words as chips in their colours.
import { lightUp } from "./light.js";

const GREY = "#b0b4ba";

// `figure` holds a .photo and a .chips; `pair` is the server's answer.
export function showEvidence(figure, pair) {
  hideEvidence(figure);
  const weights = pair.alignment.map((row) => Math.max(...row));
  const strengths = weights.map((weight) => weight / Math.max(...weights));
  figure.dataset.alignment = JSON.stringify(pair.alignment);
  figure.querySelector(".photo").append(regions(pair, strengths));
  figure.querySelector(".chips").append(...chips(pair, strengths));
  lightUp(figure);
}

export function hideEvidence(figure) {
  figure.querySelector(".regions")?.remove();
  figure.querySelector(".chips").replaceChildren();
}

// Small regions lie on top of large ones; those that no word chose are seen when a word that looked there is pointed at.
function regions({ boxes, words, shown, width, height }, strengths) {
  const colours = new Map(shown.map(({ region, colour }) => [region, colour]));
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const order = boxes.map((_, region) => region).sort((a, b) => area(boxes[b]) - area(boxes[a]));
  const svg = make("svg", { class: "regions", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" });
  for (const region of order) {
    const [x, y, x1, y1] = boxes[region];
    const its = words.map((word, i) => (word.region === region ? i : -1)).filter((i) => i >= 0);
    const group = make("g", { class: colours.has(region) ? "shown" : "unseen", "data-region": region, "data-strength": Math.max(0, ...its.map((i) => strengths[i])) });
    group.style.setProperty("--colour", colours.get(region) ?? GREY);
    const box = { x, y, width: x1 - x, height: y1 - y, rx: 2 };
    const reach = colours.has(region)
      ? { tabindex: 0, role: "img", "aria-label": `region looked at by ${its.map((i) => words[i].text).join(", ")}` }
      : { "aria-hidden": true };
    group.append(make("rect", { class: "halo", ...box }), make("rect", { class: "edge", ...box, ...reach }));
    svg.append(group);
  }
  return svg;
}

function chips({ words, phrases, alignment }, strengths) {
  return phrases.map(({ start, end }) => {
    const phrase = document.createElement("span");
    phrase.className = "phrase";
    for (let i = start; i < end; i++) {
      const { text, known, match, region, colour } = words[i];
      const chip = document.createElement("button");
      const fit = document.createElement("small");
      fit.textContent = known ? match.toFixed(2) : "?";
      chip.type = "button";
      chip.className = known ? "chip" : "chip unknown";
      chip.append(text, fit);
      chip.style.setProperty("--colour", colour);
      chip.style.setProperty("--strength", strengths[i]);
      const share = Math.round(100 * alignment[i][region]);
      chip.setAttribute("aria-label", `${text}, ${known ? `match ${match.toFixed(2)}` : "not in the vocabulary"}, ${share}% from one region`);
      phrase.append(chip);
    }
    return phrase;
  });
}

function make(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
