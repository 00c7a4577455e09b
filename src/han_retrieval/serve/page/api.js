const TRIES = 20;

// Requests to the server, again where it is busy. Errors have a message that can be shown.
export async function ask(path, { params = {}, signal, body } = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(given).toString();
  const send = () => fetch(query ? `${path}?${query}` : path, { signal, body, method: body ? "POST" : "GET" });
  let answer;
  try {
    answer = await send();
    for (let tries = 1; isBusy(answer) && tries < TRIES; tries++) {
      await pause(answer.headers.get("Retry-After"), signal);
      answer = await send();
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not respond. Is it still running?");
  }
  const said = await answer.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    if (answer.ok) throw new Error("The server's answer could not be read. Try again.");
    return {};
  });
  if (answer.ok) return said;
  const error = new Error(sentence(said.error ?? `The server responded with status ${answer.status}.`, body?.get("photo")?.name));
  throw Object.assign(error, { status: answer.status });
}

function isBusy(answer) {
  return answer.status === 503 && answer.headers.has("Retry-After");
}

// Wait some seconds, pages of several people not all as long, with a note that says so.
async function pause(seconds, signal) {
  const note = document.createElement("p");
  Object.assign(note, { className: "busy", role: "status", textContent: "The server is busy. Trying again…" });
  (document.querySelector("dialog[open]") ?? document.body).append(note);
  try {
    await new Promise((resolve, reject) => {
      setTimeout(resolve, 1000 * seconds * (0.75 + Math.random() / 2));
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  } finally {
    note.remove();
  }
}

// An error of the server as a sentence; one that begins with the name of the file that was sent keeps it as it is.
function sentence(line, file) {
  const named = file && line.startsWith(file.slice(0, 20)); // the server cuts long names
  return (named ? line : line.charAt(0).toUpperCase() + line.slice(1)) + (/[.?!]$/.test(line) ? "" : ".");
}

export const thumbnail = (id) => `/thumbnails/${id}.jpg`;
export const picture = (id) => `/photos/${id}.jpg`;
export const original = (id) => `/originals/${id}`;
export const viewed = (id, path) => (/\.(jpe?g?|png|gif|webp|avif|bmp)$/i.test(path) ? `${original(id)}?view=true` : null); // where browsers show it
const percent = (probability) => `${Math.round(100 * probability)}%`;

// What people read of a match, and of its probability where they point at it.
export const fit = ({ match, probability }) => (match ? { text: `${match} match`, title: probability == null ? "" : `${percent(probability)} likely to be the photo that is meant` } : null);

// How like a photo is to the one that was searched with.
export const alike = ({ score }) => ({ badge: percent(Math.max(0, score)), text: `${percent(Math.max(0, score))} alike`, title: `Its regions have a mean cosine of ${score.toFixed(2)} with those of your photo` });

// The month of a photo in the browser's language.
export function month({ date }) {
  if (!date) return "Without a date";
  const [year, its] = date.slice(0, 7).split("-").map(Number);
  return new Date(year, its - 1, 1).toLocaleDateString(undefined, { month: "long", year: "numeric" });
}

// The day of "2024-01-31 12:00:00" in the browser's language.
export function day(date) {
  const [year, month, its] = date.slice(0, 10).split("-").map(Number);
  return new Date(year, month - 1, its).toLocaleDateString(undefined, { day: "numeric", month: "long", year: "numeric" });
}
