// Pointing at a word lights up the regions it is aligned with; pointing at a region lights up its words.
// `figure` has data-alignment, chips (.chip, in phrases) in the order of the words, and regions (.regions g) with their
// numbers. Each region gets a tag with its words, in sight while the region is shown or pointed at.
export function lightUp(figure) {
  const alignment = JSON.parse(figure.dataset.alignment); // a row a word, a column a region
  const chips = [...figure.querySelectorAll(".chip")];
  const regions = [...figure.querySelectorAll(".regions g")].sort((a, b) => a.dataset.region - b.dataset.region);
  const set = (element, name, value) => element.style.setProperty(name, value);
  const tags = addTags(figure.querySelector(".photo"), regions, regionNames(figure, chips, alignment));
  const isShown = (region) => region.classList.contains("shown");
  const tag = (whether) => tags.forEach((each, j) => set(each, "--on", Number(whether(j))));

  const rest = () => {
    for (const region of regions) {
      set(region, "--on", isShown(region) ? region.dataset.strength : 0);
      set(region, "--glow", 0);
    }
    for (const chip of chips) set(chip, "--on", 1);
    tag((j) => isShown(regions[j]));
  };
  const lightWord = (word) => {
    const most = Math.max(...alignment[word], 1e-6);
    const shares = alignment[word].map((weight) => weight / most);
    regions.forEach((region, j) => {
      const share = shares[j];
      set(region, "--on", share < 0.25 ? 0 : share ** 2);
      set(region, "--glow", share < 1 ? 0 : 0.6); // many that glow would hide what they are of
    });
    chips.forEach((chip, i) => set(chip, "--on", i === word ? 1 : 0.4));
    tag((j) => shares[j] === 1);
  };
  const lightRegion = (region) => {
    const column = alignment.map((row) => row[region]);
    const most = Math.max(...column, 1e-6);
    regions.forEach((other, j) => {
      set(other, "--on", j === region ? 1 : 0.15 * isShown(other));
      set(other, "--glow", j === region ? 1 : 0);
    });
    chips.forEach((chip, i) => set(chip, "--on", 0.3 + 0.7 * (column[i] / most)));
    tag((j) => j === region);
  };

  const listen = (element, light) => {
    for (const event of ["pointerenter", "focus", "click"]) element.addEventListener(event, light);
    for (const event of ["pointerleave", "blur"]) element.addEventListener(event, rest);
  };
  chips.forEach((chip, i) => chip.classList.contains("unknown") || listen(chip, () => lightWord(i)));
  regions.forEach((region, j) => {
    // The others cannot be pointed at, and in Chromium a listener for focus alone would make them stops of the Tab key.
    if (isShown(region)) listen(region.querySelector(".edge"), () => lightRegion(j));
  });
  rest();
}

// For each region the phrases of the words that are aligned with it most, without function words at their ends and
// without words that the model does not know.
function regionNames(figure, chips, alignment) {
  const names = alignment[0].map(() => new Set());
  const functions = alignment[0].map(() => new Set()); // phrases of function words alone
  for (const phrase of figure.querySelectorAll(".phrase")) {
    const its = [...phrase.querySelectorAll(".chip:not(.unknown)")];
    if (!its.length) continue;
    const row = alignment[chips.indexOf(its[0])];
    const says = its.map((chip) => !chip.classList.contains("function"));
    const [start, end] = says.includes(true) ? [says.indexOf(true), says.lastIndexOf(true) + 1] : [0, its.length];
    const text = its.slice(start, end).map((chip) => chip.firstChild.data).join(" ");
    (says.includes(true) ? names : functions)[row.indexOf(Math.max(...row))].add(text);
  }
  return names.map((its, j) => [...(its.size ? its : functions[j])].join(" / "));
}

// A tag for each region, at a corner of its box and within the photo.
function addTags(photo, regions, names) {
  const layer = document.createElement("div");
  layer.className = "tags";
  layer.setAttribute("aria-hidden", "true"); // the chips say it
  const tags = regions.map((region, j) => {
    const tag = document.createElement("span");
    tag.textContent = names[j];
    tag.hidden = !names[j];
    tag.style.setProperty("--colour", region.style.getPropertyValue("--colour"));
    return tag;
  });
  layer.append(...tags);
  photo.append(layer);
  new ResizeObserver(() => placeTags(layer, regions, tags)).observe(layer);
  return tags;
}

// Each tag where it covers those before least; tags that are not in sight at first may cover others.
function placeTags(layer, regions, tags) {
  const [across, down] = [layer.clientWidth, layer.clientHeight];
  const taken = [];
  regions.forEach((region, j) => {
    const [wide, tall] = [tags[j].offsetWidth, tags[j].offsetHeight];
    if (!wide) return;
    const [x0, y0, x1, y1] = corners(region, across, down);
    const tries = [[y0, y0 - tall], [y0, y0], [y1, y1 - tall], [y1, y1]].flatMap(([y, top]) => [[x0, y, x0, top], [x1, y, x1 - wide, top]]);
    const places = tries.map(([x, y, left, top]) => ({ x, y, left: within(left, across - wide), top: within(top, down - tall), wide, tall }));
    const covered = places.map((place) => taken.reduce((sum, other) => sum + shared(place, other), 0));
    const { x, y, left, top } = places[covered.indexOf(Math.min(...covered))];
    if (region.classList.contains("shown")) taken.push({ left, top, wide, tall });
    Object.assign(tags[j].style, { left: `${left}px`, top: `${top}px`, transformOrigin: `${x - left}px ${y - top}px` });
  });
}

// A region's box in pixels of its photo as it is shown.
function corners(region, across, down) {
  const { x, y, width, height } = region.querySelector(".edge");
  const size = region.ownerSVGElement.viewBox.baseVal;
  const [sx, sy] = [across / size.width, down / size.height];
  const [left, top, wide, tall] = [x, y, width, height].map((length) => length.baseVal.value);
  return [within(left * sx, across), within(top * sy, down), within((left + wide) * sx, across), within((top + tall) * sy, down)];
}

const within = (value, most) => Math.max(0, Math.min(value, most));

// The area that two tags share.
function shared(a, b) {
  const side = (start, length) => Math.min(a[start] + a[length], b[start] + b[length]) - Math.max(a[start], b[start]);
  return Math.max(0, side("left", "wide")) * Math.max(0, side("top", "tall"));
}
