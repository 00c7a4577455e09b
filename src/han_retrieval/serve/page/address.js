// The page's state in its address: { q, like, root, folder, since, until, photo }; `like` is a photo's id.
// A file has no address: `upload` is its number among the files of this visit, kept in the history's state.
const NAMES = ["q", "like", "root", "folder", "since", "until", "photo"];

export function read() {
  const given = new URLSearchParams(location.search);
  const named = Object.fromEntries(NAMES.map((name) => [name, given.get(name) ?? ""]));
  return { ...named, upload: history.state?.upload ?? "" };
}

export function write(state) {
  const query = new URLSearchParams(NAMES.filter((name) => state[name]).map((name) => [name, state[name]]));
  return query.size ? `/?${query}` : "/";
}

export function go(state, { push }) {
  const address = write(state);
  const same = address === location.pathname + location.search && state.upload === (history.state?.upload ?? "");
  if (same) return;
  if (push) history.pushState({ pushed: true, upload: state.upload }, "", address);
  else history.replaceState({ ...history.state, upload: state.upload }, "", address);
}
