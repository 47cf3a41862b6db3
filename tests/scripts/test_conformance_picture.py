"""The picture of the peers: who is right where, for any number of them."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from matplotlib import image

PATH = Path(__file__).parents[2] / "scripts" / "conformance_report.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("conformance_report_picture", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def result(**families):
    """A peer's results: for each family the statuses of its cases."""
    rows = {
        family: {
            "admits": 15.0,
            "cases": {
                f"{family}-{i}": {"status": s, "digits": [15.0]} for i, s in enumerate(found)
            },
        }
        for family, found in families.items()
    }
    return {"tool": "a tool", "looks_like": [], "families": rows}


RESULTS = {
    "one": result(easy=["pass"] * 4, hard=["wrong", "pass", "timeout"], rare=["pass"]),
    "two": result(easy=["pass", "unsupported"], hard=["wrong", "xfail"], rare=["unsupported"]),
}


def test_shares_are_of_what_is_supported_and_the_worst_family_comes_first(script):
    found = script.shares(RESULTS)
    assert list(found) == ["hard", "easy", "rare"]
    assert found == {"hard": [(2, 3), (1, 2)], "easy": [(0, 4), (0, 1)], "rare": [(0, 1), None]}


@pytest.mark.parametrize(
    ("wrong", "asked", "shade"),
    [(1, 3, 0), (4, 12, 0), (5, 12, 1), (2, 3, 1), (5, 7, 2), (3, 3, 2), (1, 1, 2)],
)
def test_colours_are_of_thirds(script, wrong, asked, shade):
    assert script.colour(wrong, asked) == script.WRONG[shade]
    assert script.colour(0, asked) == script.RIGHT


@pytest.mark.parametrize("peers", [1, 30])
def test_picture_takes_any_number_of_peers(script, peers, tmp_path, monkeypatch):
    results = {f"peer {i}": RESULTS["one"] for i in range(peers)}
    source, out = tmp_path / "results.json", tmp_path / "peers.png"
    source.write_text(json.dumps(results), encoding="utf-8")
    options = ["--from", str(source), "--picture", str(out)]
    monkeypatch.setattr(sys, "argv", ["conformance_report.py", *options])
    script.main()
    pixels = image.imread(out)
    assert pixels.shape[1] > 60 * peers
    # Each peer has a cell of the worst family, in its colour: as many runs in a line of pixels.
    colour = [int(script.WRONG[1][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    mask = abs(pixels[:, :, :3] - colour).max(axis=2) < 0.01
    line = mask[mask.sum(axis=1).argmax()]
    assert (line[1:] & ~line[:-1]).sum() == peers
