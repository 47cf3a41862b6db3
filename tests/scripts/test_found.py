"""The list of faults in other libraries: what is right, and that the page has the same faults.

No foreign library is asked here; `python scripts/found.py` does.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from mpmath import mp, mpf

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "found.md"
BLOCK = re.compile(r"```text\n\$ python scripts/found\.py (\S+)\n(.*?)```", re.DOTALL)


def load():
    path = ROOT / "scripts" / "found.py"
    spec = importlib.util.spec_from_file_location("found", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["found"] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


SCRIPT = load()
NAMES = list(SCRIPT.FAULTS)


def log_p(x, weights, means, deviations):
    """The definition: the logarithm of a sum of products of densities, in multiple precision."""
    total = mpf(0)
    for weight, mean, deviation in zip(weights, means, deviations, strict=True):
        product = mpf(weight)
        for value, m, s in zip(x, mean, deviation, strict=True):
            z = (mpf(value) - mpf(m)) / mpf(s)
            product *= mp.exp(-z * z / 2) / (mpf(s) * mp.sqrt(2 * mp.pi))
        total += product
    return mp.log(total)


def variance(x):
    values = [mpf(value) for (value,) in x]
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


def log_posterior(problem, q):
    """One sample in one dimension, and the density of a Wishart distribution at exp(2 q)."""
    gamma, m = mpf(problem.prior[0]), problem.prior[1]
    n, precision = m + 2, mp.exp(2 * q)
    prior = precision ** (mpf(m) / 2) * mp.exp(-(gamma**2) * precision / 2)
    prior /= 2 ** (mpf(n) / 2) * gamma**-n * mp.gamma(mpf(n) / 2)
    return log_p(problem.x[0], problem.weights, problem.means, [[mp.exp(-q)]]) + mp.log(prior)


def derivative_in_the_mean(problem):
    def of(mean):
        means = [[mean, *problem.means[0][1:]], *problem.means[1:]]
        return log_p(problem.x[0], problem.weights, means, problem.deviations)

    return mp.diff(of, mpf(problem.means[0][0]))


def deviation(problem):
    """The square root of the second moment of the density, by quadrature."""
    ((mean,),), ((scale,),) = problem.means, problem.deviations

    def integrand(z):
        x = mean + scale * z
        return (
            (x - mean) ** 2
            * mp.exp(log_p([x], problem.weights, problem.means, problem.deviations))
            * scale
        )

    return mp.sqrt(mp.quad(integrand, range(-12, 13, 4)))


BY_DEFINITION = {
    "log p(x)": lambda p: log_p(p.x[0], p.weights, p.means, p.deviations),
    "d log p(x) / d mean": derivative_in_the_mean,
    "deviation of samples": deviation,
    "fitted variance": lambda p: variance(p.x),
    "d log posterior / d q": lambda p: mp.diff(
        lambda q: log_posterior(p, q), -mp.log(mpf(p.deviations[0][0]))
    ),
}


@pytest.fixture(scope="module")
def blocks():
    return dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_right_number_is_that_of_the_definition(name):
    problem = SCRIPT.FAULTS[name].problem
    with mp.workdps(40):
        exact = BY_DEFINITION[problem.quantity](problem)
    assert SCRIPT.right(problem) == pytest.approx(float(exact), rel=1e-14, abs=0)


def test_page_and_script_list_the_same_faults(blocks):
    page = PAGE.read_text(encoding="utf-8")
    assert list(blocks) == NAMES
    assert re.findall(r"^## `(\S+)`", page, re.MULTILINE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_page_has_the_input_the_right_number_and_one_that_is_far_from_it(name, blocks):
    fault, lines = SCRIPT.FAULTS[name], blocks[name].splitlines()
    exact = SCRIPT.right(fault.problem)
    number = float(lines[-3].split()[-1])
    assert lines == SCRIPT.text(fault, lines[0].split(": ")[0], number).splitlines()
    assert lines[-2].split()[-1] == repr(exact)
    # Far beyond what rounding of a double, or of the inputs, can do. NaN is never close.
    assert number != pytest.approx(exact, rel=1e-9, abs=0)


def test_what_is_printed_goes_into_the_page():
    page = "before\n```text\n$ python scripts/found.py one\nold\n```\nafter\n"
    assert SCRIPT.written(page, {"one": r"new \1", "two": "x"}) == page.replace("old", r"new \1")


def test_library_is_asked_in_the_process_of_its_environment(monkeypatch, capsys):
    def answer(problem):
        return "a library 1.0", SCRIPT.right(problem) + 1

    fault = SCRIPT.Fault("its function", SCRIPT.OFF, answer)
    monkeypatch.setitem(SCRIPT.FAULTS, "planted", fault)
    monkeypatch.setattr(sys, "argv", ["found.py", "--answer", "planted"])
    SCRIPT.main()
    library, number = json.loads(capsys.readouterr().out)
    assert SCRIPT.text(fault, library, number).endswith("off by     1")
