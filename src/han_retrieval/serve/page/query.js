// The text of a query's parts, in the language of search/query.py. A part is { sentence or photo or written, weight }.
const LEFT_OUT = /^\p{L}[\p{L}\p{N}_'’-]*$/u; // a word that needs no quotation marks
const QUOTES = /["“”„‟]/g;

export function textOf(parts) {
  const conditions = parts.filter(({ written }) => written).map(({ written, weight }) => `${weight < 0 ? "-" : ""}text:${/[\s"]/.test(written) ? `"${written}"` : written}`);
  return [scored(parts.filter(({ written }) => !written)), ...conditions].filter(Boolean).join(" ");
}

// Sentences and photos.
function scored(parts) {
  const [first, ...others] = parts;
  if (first && isPlain(first) && others.every(({ sentence, weight }) => sentence && weight === -1)) {
    return [first.sentence, ...others.map(({ sentence }) => `-${LEFT_OUT.test(sentence) ? sentence : `"${sentence}"`}`)].join(" ");
  }
  return parts.map(({ sentence, photo, weight }, place) => {
    const sign = weight < 0 ? "- " : place ? "+ " : "";
    const size = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)} * `;
    return sign + size + (sentence == null ? `photo:${/[\s+*-]/.test(photo) ? `"${photo}"` : photo}` : `"${sentence.replace(QUOTES, "")}"`);
  }).join(" ");
}

// Whether a sentence means the same without quotation marks.
function isPlain({ sentence, weight }) {
  return Boolean(sentence) && weight === 1 && !/^\s*([\d.]+\s*\*\s*)?(["“”„‟]|photo:)|(^|\s)[+−-]|^\S+\.\w+$/.test(sentence);
}
