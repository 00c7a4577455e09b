// What to ask the server for: { path, params, body }.

// `file` is the photo of a search with an upload.
export function request({ q, like, upload, ...chosen }, file) {
  const sentence = q.trim();
  if (upload !== "") {
    const body = new FormData();
    body.set("photo", file);
    if (sentence) body.set("q", sentence);
    return { path: sentence ? "/api/search" : "/api/similar", params: chosen, body };
  }
  if (like && sentence) return { path: "/api/search", params: { q: sentence, like, ...chosen } };
  if (like) return { path: `/api/photos/${encodeURIComponent(like)}/similar`, params: chosen };
  return sentence ? { path: "/api/search", params: { q: sentence, ...chosen } } : { path: "/api/photos", params: chosen };
}
