// Requests to the server. Errors have a message that can be shown.
export async function ask(path, { params = {}, signal, body } = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(given).toString();
  let answer;
  try {
    answer = await fetch(query ? `${path}?${query}` : path, { signal, body, method: body ? "POST" : "GET" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not respond. Is it still running?");
  }
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  const error = new Error(sentence(said.error ?? `The server responded with status ${answer.status}.`));
  throw Object.assign(error, { status: answer.status });
}

// An error of the server as a sentence.
function sentence(line) {
  return line.charAt(0).toUpperCase() + line.slice(1) + (/[.?!]$/.test(line) ? "" : ".");
}

export const thumbnail = (id) => `/thumbnails/${id}.jpg`;
export const picture = (id) => `/photos/${id}.jpg`;
export const percent = (probability) => `${Math.round(100 * probability)}%`;

// The day of "2024-01-31 12:00:00" in the browser's language.
export function day(date) {
  const [year, month, its] = date.slice(0, 10).split("-").map(Number);
  return new Date(year, month - 1, its).toLocaleDateString(undefined, { day: "numeric", month: "long", year: "numeric" });
}
