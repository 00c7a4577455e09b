// Why a list of photos is empty, and what to take away.
import { ask } from "./api.js";
import { textOf } from "./query.js";

const WHERE = "in its path, title, caption, keywords or place";

// `parts` are those of the query, `filters` of the address. Returns { title, text, action, place }: what a button says, and
// the place of the part that it removes, -1 for the filters; there is no action where nothing can be removed. A search by
// photo leaves that photo out (`isByPhoto`).
export async function whyNothing(parts, filters, isByPhoto) {
  const conditions = parts.flatMap((part, place) => (part.written ? [{ part, place, text: textOf([part]) }] : []));
  const isFiltered = Object.values(filters).some(Boolean);
  const found = (text, condition) => ({ title: "No photos found", text, action: `Remove ${condition.text}`, place: condition.place });
  const isAlone = conditions.length === 1 && !isFiltered && !isByPhoto && !parts.some(({ photo }) => photo); // so is a query's photo
  for (const condition of conditions) {
    const { written, weight } = condition.part;
    if (isAlone || (await isEmpty(condition.text))) return found(`${weight > 0 ? "No" : "Every"} photo has “${written}” ${WHERE}.`, condition);
  }
  if (isFiltered) return { title: "No photo matches the filters", text: ofFilters(filters, conditions), action: "Clear the filters", place: -1 };
  if (conditions.length) return found("There are photos for each condition, but none that meets them all.", conditions.at(-1));
  return { title: "No photos found", text: "Try other words." };
}

// Whether no photo of the index meets a condition; false where the server cannot say.
async function isEmpty(condition) {
  const { total } = await ask("/api/search", { params: { q: condition, k: 1 } }).catch(() => ({}));
  return total === 0;
}

function ofFilters({ root, folder, since, until }, conditions) {
  const its = conditions.length ? ` with ${conditions.map(({ text }) => text).join(" ")}` : "";
  return `${root || folder ? "This folder" : "The index"} has no photo${its}${since || until ? " from these days" : ""}.`;
}
