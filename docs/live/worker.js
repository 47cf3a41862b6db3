// Python in a thread of its own: it loads Pyodide, NumPy, SciPy and gmm_np, and then answers.
//
// To the page:   {stage, text}  while loading;  {ready: true};  {id, answer} or {id, error}
// From the page: {id, name, args}

const STAGES = 4;

function tell(stage, text) {
  postMessage({ stage, stages: STAGES, text });
}

async function get(path, how) {
  const reply = await fetch(path);
  if (!reply.ok) throw new Error(`${path} is not there (${reply.status}). Build the page with: python scripts/live_page.py`);
  return reply[how]();
}

async function load() {
  const { wheel, pyodide, packages } = await get("wheel.json", "json");
  const from = new URL(pyodide, location.href).href;
  tell(1, "Python");
  let runtime;
  try {
    ({ loadPyodide: runtime } = await import(`${from}pyodide.mjs`));
  } catch {
    throw new Error(`Pyodide could not be loaded from ${from}. Is there a connection? Without one, build the page with: python scripts/live_page.py --pyodide FOLDER`);
  }
  const python = await runtime({ indexURL: from });
  tell(2, "NumPy and SciPy");
  await python.loadPackage(packages, { messageCallback: () => {} });
  tell(3, "gmm_np");
  python.unpackArchive(await get(wheel, "arrayBuffer"), "wheel");
  python.FS.writeFile("/home/pyodide/live.py", await get("live.py", "text"));
  tell(4, "the first gradient");
  return python.pyimport("live").ask;
}

const ask = load();
ask.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ failed: error.message }),
);

onmessage = async ({ data: { id, name, args } }) => {
  const python = await ask;
  try {
    postMessage({ id, ...JSON.parse(python(name, JSON.stringify(args))) });
  } catch (error) {
    postMessage({ id, error: String(error.message).trim().split("\n").at(-1) });
  }
};
