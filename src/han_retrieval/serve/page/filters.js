// The filters: a folder, and a first and a last day.
import { ask } from "./api.js";

const $ = (id) => document.getElementById(id);

export class Filters {
  // `changed(filters)` is called with { root, folder, since, until }.
  constructor({ changed }) {
    this.fields = [$("folder"), $("since"), $("until")];
    this.wanted = {};
    this.examples = []; // of queries, once they are loaded
    $("show-filters").addEventListener("click", () => this.#open($("filters").hidden));
    for (const field of this.fields) field.addEventListener("change", () => changed(this.#read()));
    $("clear-filters").addEventListener("click", () => changed({ root: "", folder: "", since: "", until: "" }));
  }

  show(filters) {
    this.wanted = filters;
    $("since").value = filters.since;
    $("until").value = filters.until;
    $("folder").value = filters.root || filters.folder ? JSON.stringify([filters.root, filters.folder]) : "";
    const active = [filters.root || filters.folder, filters.since, filters.until].filter(Boolean).length;
    $("filter-count").textContent = active;
    $("filter-count").hidden = !active;
    $("show-filters").setAttribute("aria-label", active ? `Filter, ${active} in use` : "Filter");
    $("clear-filters").disabled = !active;
    if (active && !this.met) this.#open(true);
    this.met = true;
  }

  async load() {
    const { folders, months, examples } = await ask("/api/facets");
    this.examples = examples;
    const roots = new Set(folders.map((each) => each.root));
    const options = folders
      .filter((each) => each.folder || roots.size > 1)
      .map(({ root, folder, photos }) => new Option(`${label(root, folder, roots.size > 1)} (${photos.toLocaleString()})`, JSON.stringify([roots.size > 1 ? root : "", folder])));
    $("folder").replaceChildren(new Option("All folders", ""), ...options);
    $("folder").parentElement.hidden = !options.length;
    const days = Object.keys(months);
    for (const field of [$("since"), $("until")]) {
      field.parentElement.hidden = !days.length;
      field.min = days.length ? `${days[0]}-01` : "";
    }
    $("show-filters").hidden = !options.length && !days.length;
    this.show(this.wanted);
  }

  #read() {
    const { selectedIndex, value } = $("folder");
    const { wanted } = this; // has a folder that no option stands for, such as of an old link
    const [root, folder] = selectedIndex < 0 ? [wanted.root, wanted.folder] : value ? JSON.parse(value) : ["", ""];
    return { root, folder, since: $("since").value, until: $("until").value };
  }

  #open(whether) {
    $("filters").hidden = !whether;
    $("show-filters").setAttribute("aria-expanded", whether);
  }
}

// The name of a folder, indented by its depth.
function label(root, folder, manyRoots) {
  const parts = folder.split("/").filter(Boolean);
  const depth = parts.length - (manyRoots ? 0 : 1);
  return "\u2003".repeat(Math.max(0, depth)) + (parts.at(-1) ?? root.split("/").filter(Boolean).at(-1) ?? root);
}
