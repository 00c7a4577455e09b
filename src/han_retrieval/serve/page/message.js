// What is said in the place of photos, with a button that does something about it.
const $ = (id) => document.getElementById(id);

export function message(title, text, action, act) {
  $("message-title").textContent = title;
  $("message-text").textContent = text;
  $("message-action").hidden = !action;
  $("message-action").textContent = action ?? "";
  $("message-action").onclick = act ?? null;
  $("message").hidden = false;
}
