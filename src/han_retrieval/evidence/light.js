// Pointing at a word lights up the regions it is aligned with; pointing at a region lights up its words.
// `figure` has data-alignment, chips (.chip) in the order of the words, and regions (.regions g) with their numbers.
export function lightUp(figure) {
  const alignment = JSON.parse(figure.dataset.alignment); // a row a word, a column a region
  const chips = [...figure.querySelectorAll(".chip")];
  const regions = [...figure.querySelectorAll(".regions g")].sort((a, b) => a.dataset.region - b.dataset.region);
  const set = (element, name, value) => element.style.setProperty(name, value);

  const rest = () => {
    for (const region of regions) {
      set(region, "--on", region.classList.contains("shown") ? region.dataset.strength : 0);
      set(region, "--glow", 0);
    }
    for (const chip of chips) set(chip, "--on", 1);
  };
  const lightWord = (word) => {
    const most = Math.max(...alignment[word], 1e-6);
    regions.forEach((region, j) => {
      const share = alignment[word][j] / most;
      set(region, "--on", share < 0.25 ? 0 : share ** 2);
      set(region, "--glow", share < 1 ? 0 : 0.6); // many that glow would hide what they are of
    });
    chips.forEach((chip, i) => set(chip, "--on", i === word ? 1 : 0.4));
  };
  const lightRegion = (region) => {
    const column = alignment.map((row) => row[region]);
    const most = Math.max(...column, 1e-6);
    regions.forEach((other, j) => {
      set(other, "--on", j === region ? 1 : 0.15 * other.classList.contains("shown"));
      set(other, "--glow", j === region ? 1 : 0);
    });
    chips.forEach((chip, i) => set(chip, "--on", 0.3 + 0.7 * (column[i] / most)));
  };

  const listen = (element, light) => {
    for (const event of ["pointerenter", "focus", "click"]) element.addEventListener(event, light);
    for (const event of ["pointerleave", "blur"]) element.addEventListener(event, rest);
  };
  chips.forEach((chip, i) => chip.classList.contains("unknown") || listen(chip, () => lightWord(i)));
  regions.forEach((region, j) => listen(region.querySelector(".edge"), () => lightRegion(j)));
  rest();
}
