// The results of the current query, loaded page by page while scrolling. Responses to earlier queries are dropped.
import { ask } from "./api.js";

const PAGE_SIZE = 60;
const DEEPEST = 10_000; // the server's `Limits.depth`; lists by date have no limit

export class Results {
  // Calls `shown(response, isFirst)`, `failed(error, isFirst)` and `busy(isBusy)`.
  constructor({ shown, failed, busy }) {
    Object.assign(this, { shown, failed, busy, wanted: null, next: 0, more: false, asking: null });
  }

  // `wanted` is { path, params, body }.
  async load(wanted) {
    Object.assign(this, { wanted, next: 0, more: false });
    await this.#ask();
  }

  async loadMore() {
    if (this.more && !this.asking) await this.#ask();
  }

  async #ask() {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    const { path, params, body } = this.wanted;
    const first = this.next;
    this.busy(true);
    try {
      const answer = await ask(path, { params: { ...params, first, k: PAGE_SIZE }, body, signal: asking.signal });
      if (asking !== this.asking) return;
      this.next = first + answer.hits.length;
      const within = path === "/api/photos" || this.next <= DEEPEST;
      this.more = within && this.next < answer.total && answer.hits.length > 0;
      this.asking = null;
      this.shown(answer, first === 0);
    } catch (error) {
      if (asking !== this.asking) return;
      this.asking = null;
      this.more = first > 0; // which can be asked for again
      this.failed(error, first === 0);
    } finally {
      if (!this.asking) this.busy(false);
    }
  }
}
