# ruff: noqa: ARG001, ARG005  (changes take a group and a test)
"""The certified vectors: their format, their digests, their digits, and the reference on them."""

import hashlib
import json
import math
import re
import sys
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest

from gmm_np import Gradients, log_prob
from gmm_np.conformance.adapters import gmm_np as own
from gmm_np.conformance.cases import read_family
from gmm_np.conformance.compare import judge
from gmm_np.conformance.function_adapter import FunctionAdapter
from gmm_np.reference import nll_backward, nll_forward, nll_hvp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from certify import digests, multiple, routes  # noqa: E402

pytestmark = pytest.mark.needs_extras

VECTORS = ROOT / "gmm_np" / "conformance" / "vectors"
SCHEMA = json.loads((VECTORS / "schema.json").read_text(encoding="utf-8"))
FILES = sorted(path for path in VECTORS.glob("*.json") if path.name != "schema.json")
DOCUMENTS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}
DTYPES = {"binary64": "<f8", "binary32": "<f4"}
HALF_ULP = {"binary64": Fraction(1, 2**53), "binary32": Fraction(1, 2**24)}
FACTOR = 5  # C, calibrated: it may not grow for a case to pass
VALUE = "value_and_gradient"
MOVES = ("v_logits", "v_means", "v_chol")
NAMES = {
    "cholesky": ("logits", "means", "chol", "x", "weights", *MOVES, "columns"),
    "precision": ("alpha", "means", "icf", "x", "gamma", "m"),
    **dict.fromkeys(
        (
            *("diag", "tied", "spherical", "rowwise_full", "rowwise_diag", "rowwise_spherical"),
            *("covariances", "precisions", "diag_variances", "spherical_variances"),
        ),
        ("logits", "means", "scale", "x", "weights"),
    ),
}


# --- a validator for as much of JSON schema as ours uses ------------------------------------------

TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
}


def faults(value, schema, place=""):
    """Where a value is not what the schema says; a keyword that is not known is an error."""
    found = []
    for keyword, rule in schema.items():
        if keyword in CONDITIONS:
            found += (
                [] if CONDITIONS[keyword](rule, value) else [f"{place}: {keyword} {rule!r:.80}"]
            )
        elif keyword in PARTS:
            for part, part_schema, name in PARTS[keyword](rule, value, schema):
                found += faults(part, part_schema, place + name)
        elif keyword not in ANNOTATIONS:
            raise KeyError(keyword)
    return found


ANNOTATIONS = {"$schema", "title", "description", "$defs", "then", "else"}
CONDITIONS = {
    "type": lambda r, v: TYPES[r](v),
    "const": lambda r, v: v == r,
    "enum": lambda r, v: v in r,
    "pattern": lambda r, v: isinstance(v, str) and re.search(r, v) is not None,
    "minLength": lambda r, v: len(v) >= r,
    "minimum": lambda r, v: v >= r,
    "exclusiveMinimum": lambda r, v: v > r,
    "minItems": lambda r, v: len(v) >= r,
    "uniqueItems": lambda _, v: len(set(v)) == len(v),
    "required": lambda r, v: all(name in v for name in r),
    "anyOf": lambda r, v: any(not faults(v, schema) for schema in r),
    "not": lambda r, v: bool(faults(v, r)),
}
PARTS = {
    "$ref": lambda r, v, _: [(v, resolve(r), "")],
    "items": lambda r, v, _: [(item, r, f"[{i}]") for i, item in enumerate(v)],
    "properties": lambda r, v, _: [(v[name], r[name], f".{name}") for name in r if name in v],
    "additionalProperties": lambda r, v, s: [
        (v[name], {"not": {}} if r is False else r, f".{name}")
        for name in v
        if name not in s.get("properties", {})
    ],
    "propertyNames": lambda r, v, _: [(name, r, f".{name}") for name in v],
    "allOf": lambda r, v, _: [(v, schema, "") for schema in r],
    "if": lambda r, v, s: [(v, s.get("else" if faults(v, r) else "then", {}), "")],
}


def resolve(reference):
    node = SCHEMA
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


# --- what the tests have in common ----------------------------------------------------------------


def cases_of(document):
    for group in document["groups"]:
        for test in group["tests"]:
            yield group, test


def every_test():
    return [(group, test) for document in DOCUMENTS.values() for group, test in cases_of(document)]


def digest(group, test):
    """As the schema says, by NumPy."""
    dtype, inputs, sha = DTYPES[group["dtype"]], test["inputs"], hashlib.sha256()
    for name in NAMES[group["parametrization"]]:
        if name not in inputs:
            continue
        array = np.array(list(leaves(inputs[name])), np.float64)
        if name in ("x", "weights") and "count" in inputs:
            rows = array.reshape(len(inputs["count"]), -1)
            array = np.repeat(rows, inputs["count"], axis=0)
        sha.update(array.astype(dtype).tobytes())
    return sha.hexdigest()


def leaves(value):
    if isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def inputs_of(group, test):
    """The inputs as nested lists of numbers, as they are in the group's type."""
    names = [name for name in NAMES[group["parametrization"]] if name in test["inputs"]]
    found = {name: numbers(test["inputs"][name], group["dtype"]) for name in names}
    return found | ({"columns": test["inputs"]["columns"]} if "columns" in names else {})


def numbers(value, dtype):
    if isinstance(value, list):
        return [numbers(item, dtype) for item in value]
    return float(np.dtype(DTYPES[dtype]).type(value))


def problem_of(group, test, **changes):
    counts = {"count": test["inputs"]["count"]} if "count" in test["inputs"] else {}
    return routes.problem_of(
        group["parametrization"],
        group.get("function", VALUE),
        **(inputs_of(group, test) | counts | changes),
        dtype=group["dtype"],
        reduction=group["reduction"],
    )


def evaluate(problem, digits):
    return routes.multiple_of(problem)(problem, digits)


def wrong_digits(group, test, digits):
    """Blocks whose certified values differ from a computation with so many digits."""
    computed = evaluate(problem_of(group, test), digits)
    with mp.workdps(digits):
        return {
            name
            for name, block in test["outputs"].items()
            for text, value in zip(block["certified"], computed[name], strict=True)
            if not half_ulp_away(mp.mpf(text), value)
        }


def half_ulp_away(certified, value):
    """Whether 34 digits of `value` are the certified ones. "0" stands for less than 1e-1000."""
    if certified == 0:
        return abs(value) < mp.mpf(10) ** -1000
    return abs(certified - value) <= abs(certified) * mp.mpf(10) ** -33 / 2


def certified_faults(group, test):
    """Wrong blocks with as many digits as it takes: what cancels needs more."""
    found = set()
    for digits in (120, 480, 1920):
        found = wrong_digits(group, test, digits)
        if not found:
            break
    return found


def faults_of_document(document):
    """Everything that the tests below ask of a file, for one that was tampered with."""
    found = faults(document, SCHEMA)
    for group, test in cases_of(document):
        if digest(group, test) != test["digest"]:
            found.append(f"{test['id']}: digest")
        elif test["result"] != "invalid" and certified_faults(group, test):
            found.append(f"{test['id']}: certified")
    return found


# --- the files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_file_is_what_the_schema_says(name):
    assert faults(DOCUMENTS[name], SCHEMA) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_counts_names_flags_and_lengths_agree(name):
    document = DOCUMENTS[name]
    tests = [test for _, test in cases_of(document)]
    assert document["family"] == name
    assert document["number_of_tests"] == len(tests)
    blocks = [block for test in tests for block in test.get("outputs", {}).values()]
    assert document["number_of_outputs"] == sum(len(block["certified"]) for block in blocks)
    assert {flag for test in tests for flag in test["flags"]} == set(document["notes"])
    for block in blocks:
        assert len({len(values) for values in block.values()}) == 1
    for group, test in cases_of(document):
        if test["result"] == "invalid":
            continue
        n, k, d = test["N"], test["K"], test["D"]
        function, form = group.get("function", VALUE), group["parametrization"]
        of_rows = form.startswith("rowwise_")
        sizes = [len(block["certified"]) for block in test["outputs"].values()]
        last = {"diag": k * d, "tied": d * (d + 1) // 2, "spherical": k}
        last |= {"covariances": k * d * d, "precisions": k * d * d}
        short = form.removeprefix("rowwise_").removesuffix("_variances")
        last_size = last.get(short, k * d * (d + 1) // 2)
        times = n if of_rows or function == "scores" else 1
        expected = [times * size for size in (k, k * d, last_size)]
        others = {
            "log_prob": [n],
            "responsibilities": [n * k],
            "d_x": [n * d],
            "em_step": [k, k * d, k * d * d],
            "marginal": [n],
        }
        if function == VALUE:
            expected = [1, *expected]
        assert sizes == others.get(function, expected), test["id"]
        inputs = test["inputs"]
        assert n == sum(inputs.get("count", [1] * len(inputs["x"])))
        assert np.shape(inputs["means"]) == ((n, k, d) if of_rows else (k, d))
        if form == "cholesky":
            assert np.shape(inputs["chol"]) == (k, d, d)


def test_there_are_enough_cases_of_each_level_in_few_enough_bytes():
    tests = [test for _, test in every_test()]
    assert len({test["id"] for test in tests}) == len(tests) >= 300
    levels = [test["level"] for test in tests]
    assert min(levels.count(level) for level in ("lower", "average", "higher")) >= 60
    assert sum(path.stat().st_size for path in VECTORS.iterdir()) <= 10e6
    for group, test in every_test():  # what has a row for each sample: few samples
        if group.get("function", VALUE) != VALUE and test["result"] != "invalid":
            assert sum(len(b["certified"]) for b in test["outputs"].values()) <= 300, test["id"]


def test_listed_digests_are_those_of_the_tests():
    # Vectors are added, and never changed: a line of the list is never written anew.
    found = {}
    for document in DOCUMENTS.values():
        found |= digests.digests_of(document)
    assert digests.read(VECTORS) == found
    text = (VECTORS / digests.NAME).read_text(encoding="utf-8")
    assert text == digests.text_of(found)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda group, test: test["outputs"]["chol"]["spread"].__setitem__(0, "1e-9"), True),
        (lambda group, test: group.update(reduction="sum"), True),
        (lambda group, test: test["inputs"]["logits"].__setitem__(0, 0.5), True),
        (lambda group, test: test.update(result="either"), True),
        (lambda group, test: test["kills"].append("other"), False),
        (lambda group, test: test.update(comment="In other words."), False),
    ],
)
def test_digest_changes_with_what_is_asked_and_with_the_answer(change, differs):
    changed = deepcopy(DOCUMENTS["one_correlated"])
    change(*first_of(changed))
    before, after = map(digests.digests_of, (DOCUMENTS["one_correlated"], changed))
    identity = first_of(changed)[1]["id"]
    assert (before[identity] != after[identity]) is differs


def test_the_generator_and_the_constant_are_the_same_in_all_files():
    heads = {
        (document["factor"], json.dumps(document["generator"])) for document in DOCUMENTS.values()
    }
    assert len(heads) == 1


@pytest.mark.parametrize("name", DOCUMENTS)
def test_digests_are_those_of_the_inputs(name):
    for group, test in cases_of(DOCUMENTS[name]):
        assert digest(group, test) == test["digest"], test["id"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_inputs_are_in_shortest_decimal_form(name):
    text = (VECTORS / f"{name}.json").read_text(encoding="utf-8")
    spelled = json.loads(text, parse_float=str)
    for group, test in cases_of(spelled):
        for input_name in NAMES[group["parametrization"]]:
            for number in leaves(test["inputs"].get(input_name, [])):
                if isinstance(number, str) and number not in ("NaN", "Infinity", "-Infinity"):
                    shortest = repr(float(number))
                    if group["dtype"] == "binary32":
                        shortest = repr(float(str(np.float32(number))))
                    assert number == shortest, test["id"]


# --- the certified values -------------------------------------------------------------------------


def small(group, test, outputs):
    return (
        group["parametrization"] != "precision"
        and test["result"] != "invalid"
        and sum(len(block["certified"]) for block in test["outputs"].values()) <= outputs
        and len(test["inputs"]["x"]) <= 20
    )


SAMPLE = [pair for pair in every_test() if small(*pair, 40)][::6]


@pytest.mark.parametrize("pair", SAMPLE, ids=lambda pair: pair[1]["id"])
def test_certified_digits_are_those_of_multiple_precision(pair):
    assert certified_faults(*pair) == set()


@pytest.mark.slow
def test_all_certified_digits_are_those_of_multiple_precision():
    wrong = [
        test["id"]
        for group, test in every_test()
        if small(group, test, 1200) and certified_faults(group, test)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "identity",
    ["dense-003", "binary32-002", "weights-002", "hvp_conventions-003", "scores_dense-002"],
)
def test_spread_is_half_an_ulp_in_each_input(identity):
    # By differences in each input, where the generator has the Hessian in closed form.
    group, test = next(pair for pair in every_test() if pair[1]["id"] == identity)
    inputs = inputs_of(group, test)
    step = mp.mpf(10) ** -25
    totals = {name: [mp.mpf(0)] * len(b["spread"]) for name, b in test["outputs"].items()}
    with mp.workdps(80):
        for name, value in inputs.items():
            for path in paths(value):
                ends = [
                    evaluate(
                        problem_of(group, test, **{name: nudged(value, path, 1 + sign * step)}), 80
                    )
                    for sign in (1, -1)
                ]
                for block, total in totals.items():
                    for i, (up, down) in enumerate(zip(*(end[block] for end in ends), strict=True)):
                        total[i] += abs(up - down) / (2 * step)
        unit = mp.mpf(1) * HALF_ULP[group["dtype"]].numerator / HALF_ULP[group["dtype"]].denominator
        for block, total in totals.items():
            for text, value in zip(test["outputs"][block]["spread"], total, strict=True):
                # Three digits, rounded up.
                assert unit * value <= mp.mpf(text) <= unit * value * 1.0101 + mp.mpf(10) ** -40


def paths(value):
    if not isinstance(value, list):
        return [()] if value else []
    return [(i, *path) for i, item in enumerate(value) for path in paths(item)]


def nudged(value, path, factor):
    if not path:
        return mp.mpf(value) * factor
    changed = list(value)
    changed[path[0]] = nudged(value[path[0]], path[1:], factor)
    return changed


@pytest.mark.parametrize("identity", ["hvp_dense-008", "hvp_conventions-004", "hvp_range-003"])
def test_certified_product_is_the_difference_of_certified_gradients(identity):
    # By the formulas of the gradient alone: the generator has the product in closed form, twice.
    group, test = next(pair for pair in every_test() if pair[1]["id"] == identity)
    inputs, step = inputs_of(group, test), mp.mpf(10) ** -40
    with mp.workdps(120):
        ends = []
        for sign in (1, -1):
            moved = {
                name: plus(inputs[name], inputs[f"v_{name}"], sign * step)
                for name in ("logits", "means", "chol")
            }
            ends.append(multiple.evaluate(problem_of(group, test, **moved), 120))
        for name, block in test["outputs"].items():
            for text, up, down in zip(block["certified"], *(e[name] for e in ends), strict=True):
                product = (up - down) / (2 * step)
                assert abs(product - mp.mpf(text)) <= mp.mpf(10) ** -33 * abs(product)


def plus(value, move, step):
    if not isinstance(value, list):
        return mp.mpf(value) + step * mp.mpf(move)
    return [plus(v, m, step) for v, m in zip(value, move, strict=True)]


def test_scale_is_no_less_than_the_value_that_it_is_the_scale_of():
    for _, test in every_test():
        for name, block in test.get("outputs", {}).items():
            for text, size in zip(block["certified"], block["scale"], strict=True):
                if text != "0":
                    assert abs(Fraction(text)) <= Fraction(size) * Fraction(101, 100), (
                        test["id"],
                        name,
                    )


# --- the checks are checked -----------------------------------------------------------------------


def first_of(document):
    return next(cases_of(document))


def change_digit(text, at):
    return text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :]


def last_certified_digit(group, test):
    block = test["outputs"]["chol"]["certified"]
    block[1] = change_digit(block[1], block[1].index("e") - 1)


def an_input(group, test):
    row = test["inputs"]["x"][0]
    row[0] = math.nextafter(row[0], 100.0)


def a_digest(group, test):
    test["digest"] = change_digit(test["digest"], 17)


def an_input_and_its_digest(group, test):
    test["inputs"]["x"][0][0] += 2.0**-40
    test["digest"] = digest(group, test)


def a_digit_less(group, test):
    block = test["outputs"]["nll"]["certified"]
    mantissa, exponent = block[0].split("e")
    block[0] = f"{mantissa[:-1]}e{exponent}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (last_certified_digit, "certified"),
        (an_input, "digest"),
        (a_digest, "digest"),
        (an_input_and_its_digest, "certified"),
        (a_digit_less, "certified"),
    ],
)
def test_one_changed_digit_is_detected(change, expected):
    changed = deepcopy(DOCUMENTS["one_correlated"])
    assert faults_of_document(changed) == []
    change(*first_of(changed))
    assert changed != DOCUMENTS["one_correlated"]
    assert any(expected in fault for fault in faults_of_document(changed))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extra=1),
        lambda d: d.pop("comment"),
        lambda d: d["groups"][0].update(dtype="binary16"),
        lambda d: first_of(d)[1].update(level="lowest"),
        lambda d: first_of(d)[1]["inputs"].update(sigma=[[1.0]]),
        lambda d: first_of(d)[1]["inputs"].update(logits=["nan"]),
        lambda d: first_of(d)[1].pop("outputs"),
        lambda d: first_of(d)[1].update(result="invalid"),
        lambda d: first_of(d)[1]["outputs"].pop("chol"),
        lambda d: first_of(d)[1]["outputs"]["nll"]["certified"].__setitem__(0, 1.0),
        lambda d: first_of(d)[1].update(flags=["Correlated", "Correlated"]),
    ],
)
def test_schema_refuses(change):
    document = deepcopy(DOCUMENTS["one_correlated"])
    change(document)
    assert faults(document, SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format_version=1),
        lambda d: d.update(format_version=4),
        lambda d: d["groups"][0].pop("function"),
        lambda d: d["groups"][0].update(function="hessian"),
        lambda d: d["groups"][0].update(function=VALUE),
        lambda d: d["groups"][0].update(function="scores"),
        lambda d: first_of(d)[1]["inputs"].pop("v_chol"),
        lambda d: first_of(d)[1]["outputs"].update(nll=first_of(d)[1]["outputs"]["logits"]),
        lambda d: first_of(d)[1]["outputs"].pop("means"),
    ],
)
def test_schema_of_second_derivatives_refuses(change):
    document = deepcopy(DOCUMENTS["hvp_dense"])
    assert faults(document, SCHEMA) == []
    change(document)
    assert faults(document, SCHEMA)


def test_a_file_has_the_oldest_format_that_can_hold_it():
    # A reader of an older format goes on reading what it knows.
    for document in DOCUMENTS.values():
        functions = {group.get("function") for group in document["groups"]}
        forms = {group["parametrization"] for group in document["groups"]}
        version = document["format_version"]
        assert (functions == {None}) is (version == 1)
        known = functions <= {VALUE, "hvp", "scores"} and forms <= {
            "cholesky",
            "precision",
            "diag",
            "tied",
            "spherical",
        }
        assert (version == 3) is (version > 1 and not known)


def test_schema_keeps_what_is_new_out_of_the_second_format():
    document = deepcopy(DOCUMENTS["rowwise_diag"])
    assert faults(document, SCHEMA) == []
    document["format_version"] = 2
    assert faults(document, SCHEMA)


# --- the reference --------------------------------------------------------------------------------


def answers(group, test):
    """The reference's outputs as flat lists, or the error that it raised."""
    inputs, dtype = test["inputs"], DTYPES[group["dtype"]]
    arrays = {}
    for name in ("x", "logits", "means", "chol", "weights"):
        if name in inputs:
            value = inputs[name]
            if len({np.shape(row) for row in value}) <= 1:
                value = np.array(value, np.float64).astype(dtype)
                if name in ("x", "weights") and "count" in inputs:
                    value = np.repeat(value, inputs["count"], axis=0)
            arrays[name] = value
    weight = arrays.pop("weights", None)
    try:
        value, cache = nll_forward(
            *arrays.values(), sample_weight=weight, reduction=group["reduction"]
        )
    except ValueError as error:
        return error
    gradients = nll_backward(cache)
    rows, columns = np.tril_indices(test["D"])
    return {
        "nll": [value],
        "logits": gradients.pi_logits.tolist(),
        "means": gradients.means.ravel().tolist(),
        "chol": gradients.scale[:, rows, columns].ravel().tolist(),
    }


def second_answers(group, test):
    """The reference's product, or its scores, one sample after the other."""
    dtype, inputs = DTYPES[group["dtype"]], dict(test["inputs"])
    count = inputs.pop("count", [1] * len(inputs["x"]))
    try:
        arrays = {name: np.array(v, np.float64).astype(dtype) for name, v in inputs.items()}
        x, weight = np.repeat(arrays.pop("x"), count, axis=0), arrays.pop("weights", None)
        moves = [arrays.pop(name) for name in MOVES if name in arrays]
        mixture = [arrays[name] for name in ("logits", "means", "chol")]
        if moves:
            found = [
                nll_hvp(
                    x,
                    *mixture,
                    Gradients(*moves),
                    sample_weight=weight,
                    reduction=group["reduction"],
                )
            ]
        else:
            found = [nll_backward(nll_forward(row[None], *mixture)[1], -1.0) for row in x]
    except ValueError as error:
        return error
    rows, columns = np.tril_indices(test["D"])
    return {
        "logits": [v for g in found for v in g.pi_logits.tolist()],
        "means": [v for g in found for v in g.means.ravel().tolist()],
        "chol": [v for g in found for v in g.scale[:, rows, columns].ravel().tolist()],
    }


def shares(group, test, found):
    """Share of the allowance of each entry, and whether it lacks 13 digits that rounding admits."""
    u, largest = HALF_ULP[group["dtype"]], Fraction(float(np.finfo(DTYPES[group["dtype"]]).max))
    for name, block in test["outputs"].items():
        for answer, *texts_of in zip(found[name], *block.values(), strict=True):
            certified, spread, scale, floor = map(Fraction, texts_of)
            if abs(certified) > largest:
                infinity = math.inf if certified > 0 else -math.inf
                yield (0.0 if answer == infinity else math.inf), False
                continue
            if not math.isfinite(answer):
                yield math.inf, True
                continue
            error = max(abs(Fraction(answer) - certified) - floor, Fraction(0))
            unit = spread + u * scale
            share = float(error / (FACTOR * unit)) if error else 0.0
            yield share, unit <= abs(certified) / 10**13 < error


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("family_diag-004", "scale"),
        ("family_tied-004", "scale"),
        ("family_spherical-004", "scale"),
        ("rowwise_full-006", "scale"),
        ("rowwise_diag-018", "means"),
        ("rowwise_spherical-009", "logits"),
        ("covariances-004", "scale"),
        ("precisions-004", "scale"),
        ("diag_variances-004", "scale"),
        ("spherical_variances-004", "scale"),
    ],
)
def test_certified_gradient_is_the_difference_of_certified_values(identity, name):
    # By the values alone: the generator makes these of gradients of full factors, in both routes.
    group, test = next(pair for pair in every_test() if pair[1]["id"] == identity)
    value, step = inputs_of(group, test)[name], mp.mpf(10) ** -40
    certified = dict(zip(paths(value), test["outputs"][name]["certified"], strict=True))
    symmetric = group["parametrization"] in ("covariances", "precisions")
    with mp.workdps(120):
        for path, text in certified.items():
            if symmetric and path[1] < path[2]:  # not read: it moves with its mirror image
                assert text == certified[path[0], path[2], path[1]]
                continue
            ends = [
                evaluate(problem_of(group, test, **{name: nudged(value, path, 1 + s * step)}), 120)
                for s in (1, -1)
            ]
            size = value
            for index in path:
                size = size[index]
            slope = (ends[0]["nll"][0] - ends[1]["nll"][0]) / (2 * step * size)
            slope /= 2 if symmetric and path[1] > path[2] else 1
            assert abs(slope - mp.mpf(text)) <= mp.mpf(10) ** -33 * abs(slope)


@pytest.mark.parametrize("identity", ["d_x-006", "d_x-030"])
def test_certified_gradient_in_x_is_the_difference_of_certified_values(identity):
    group, test = next(pair for pair in every_test() if pair[1]["id"] == identity)
    problem, step = problem_of(group, test), mp.mpf(10) ** -40
    certified = test["outputs"]["x"]["certified"]
    with mp.workdps(120):
        for text, path in zip(certified, paths(problem.x), strict=True):
            ends = [
                multiple.evaluate(
                    replace(problem, x=nudged(problem.x, path, 1 + sign * step)), 120
                )["nll"][0]
                for sign in (1, -1)
            ]
            slope = (ends[0] - ends[1]) / (2 * step * mp.mpf(problem.x[path[0]][path[1]]))
            assert abs(slope - mp.mpf(text)) <= mp.mpf(10) ** -33 * abs(slope)


def test_certified_responsibilities_add_up_to_one():
    for _, test in cases_of(DOCUMENTS["responsibilities"]):
        if test["result"] == "valid":
            with mp.workdps(60):
                found = [mp.mpf(v) for v in test["outputs"]["responsibilities"]["certified"]]
                for at in range(0, len(found), test["K"]):
                    assert abs(mp.fsum(found[at : at + test["K"]]) - 1) < mp.mpf(10) ** -33


def test_certified_log_densities_make_the_certified_loss():
    for group, test in cases_of(DOCUMENTS["log_prob"]):
        if test["result"] == "valid":
            with mp.workdps(120):
                mean = (
                    mp.fsum(mp.mpf(v) for v in test["outputs"]["log_prob"]["certified"]) / test["N"]
                )
                loss = multiple.evaluate(problem_of(group, test), 120)["nll"][0]
                assert abs(mean + loss) <= mp.mpf(10) ** -31 * abs(loss)


def test_certified_step_of_em_never_increases_the_loss():
    for group, test in cases_of(DOCUMENTS["em_step"]):
        near_one = not {"ExtremeScales", "IllConditioned"}.intersection(test["flags"])
        if test["result"] == "valid" and test["N"] <= 30 and near_one:
            with mp.workdps(60):
                problem, out = problem_of(group, test), test["outputs"]
                k, d = test["K"], test["D"]
                covariances = mp_rows(out["covariances"]["certified"], (k, d, d))
                after = replace(
                    problem,
                    logits=[mp.log(mp.mpf(v)) for v in out["pi"]["certified"]],
                    means=mp_rows(out["means"]["certified"], (k, d)),
                    chol=[mp.cholesky(mp.matrix(c)).tolist() for c in covariances],
                )
                losses = [multiple.evaluate(p, 60)["nll"][0] for p in (problem, after)]
                assert losses[1] < losses[0], test["id"]


def mp_rows(texts, shape):
    """Nested lists of numbers in this shape."""
    if len(shape) == 1:
        return [mp.mpf(text) for text in texts]
    size = len(texts) // shape[0]
    return [mp_rows(texts[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


def test_certified_marginal_density_integrates_the_joint_one():
    # Over one of two columns, by a sum with a step that is narrow to the Gaussians.
    group, test = next(pair for pair in every_test() if pair[1]["id"] == "marginal-005")
    problem = problem_of(group, test)
    assert test["D"] == 2
    (column,) = problem.columns
    step = 0.125
    for row, text in zip(problem.x, test["outputs"]["log_prob"]["certified"], strict=True):
        other = np.arange(-40.0, 40.0, step)
        x = np.empty((len(other), 2))
        x[:, column], x[:, 1 - column] = row[0], other
        density = np.exp(log_prob(x, problem.logits, problem.means, problem.chol)).sum() * step
        assert np.log(density) == pytest.approx(float(text), abs=1e-9)


def is_by_the_reference(document):
    return all(
        group["parametrization"] == "cholesky"
        and group.get("function", VALUE) in (VALUE, "hvp", "scores")
        for group in document["groups"]
    )


BY_REFERENCE = [name for name, document in DOCUMENTS.items() if is_by_the_reference(document)]


@pytest.mark.parametrize("name", sorted(set(DOCUMENTS) - set(BY_REFERENCE)))
def test_the_package_uses_at_most_a_quarter_of_the_allowance_beside_the_reference(name):
    family = read_family(VECTORS / f"{name}.json")
    for case in family.cases:
        function = own.precision if case.parametrization == "precision" else own.auto
        result = judge(case, FunctionAdapter(function).evaluate(case))
        assert result.status == "pass", (case.id, result.message)
        # The engine adds up products of blocks: a thousand rows cost it a little more.
        assert result.share <= (0.3 if case.n_samples >= 1000 else 0.25), case.id
        assert result.answered is (case.result == "valid"), case.id


@pytest.mark.parametrize("name", BY_REFERENCE)
def test_reference_uses_at_most_a_quarter_of_the_allowance(name):
    document = DOCUMENTS[name]
    assert document["factor"] == FACTOR
    for group, test in cases_of(document):
        second = group.get("function", VALUE) != VALUE
        found = second_answers(group, test) if second else answers(group, test)
        if isinstance(found, ValueError):
            assert test["result"] in ("invalid", "either"), (test["id"], found)
            continue
        assert test["result"] != "invalid", test["id"]
        used = list(shares(group, test, found))
        assert max(share for share, _ in used) <= 0.25, test["id"]
        if test["level"] != "higher":
            assert not any(lost for _, lost in used), test["id"]
