// The page's end of the worker: questions go to live.py, and their answers are promised.

export class Stopped extends Error {}

export class Python {
  /** `watch` is told {stage, stages, text} while Python loads, {ready: true}, or {failed}. */
  constructor(watch) {
    this.watch = watch;
    this.start();
  }

  start() {
    this.waiting = new Map();
    this.next = 0;
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => {
      if (data.id === undefined) {
        this.watch(data);
        return;
      }
      const { resolve, reject } = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.answer);
    };
    this.worker.onerror = (event) => this.watch({ failed: event.message || "the worker did not start" });
  }

  /** Call a function of live.py. */
  ask(name, ...args) {
    return new Promise((resolve, reject) => {
      const id = this.next++;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, name, args });
    });
  }

  /** The same, but Python is ended and started again if it takes longer than so many seconds. */
  async askFor(seconds, name, ...args) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Stopped()), 1000 * seconds);
    });
    try {
      return await Promise.race([this.ask(name, ...args), late]);
    } catch (error) {
      if (error instanceof Stopped) this.restart();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  restart() {
    this.worker.terminate();
    const left = [...this.waiting.values()];
    this.start();
    for (const { reject } of left) reject(new Stopped("Python was started again."));
  }
}
