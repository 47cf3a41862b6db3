"""The contracts at the boundary: what is accepted, what is refused, and what the message says."""

import dataclasses
import datetime as dt
import pickle
import re

import numpy as np
import pytest
from families_by_reference import expand, random_parameters, random_scale

import gmm_np
from gmm_np import Gradients, Parameters
from gmm_np.covariance import FAMILIES
from gmm_np.linalg.factors import invert_factors
from gmm_np.parameters import cast_gradient, gradient_dtype
from gmm_np.reference import nll_backward, nll_forward
from gmm_np.solvers import kmeans_start

X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])  # N = 3, D = 2
LOGITS = np.array([0.0, 1.0])  # K = 2
MEANS = np.array([[0.0, 1.0], [2.0, 3.0]])
FACTORS = np.array([[[1.0, 0.0], [0.5, 2.0]], [[3.0, 0.0], [-1.0, 0.25]]])
WEIGHT = np.array([1.0, 2.0, 0.5])
VALID = {
    "x": X,
    "pi_logits": LOGITS,
    "means": MEANS,
    "scale_tril": FACTORS,
    "sample_weight": WEIGHT,
    "d_value": np.array([1.0, -1.0, 2.0]),
}
MIXTURE = ("pi_logits", "means", "scale_tril")
EACH_ARGUMENT = pytest.mark.parametrize("name", VALID)


def changed(name, index, value):
    array = VALID[name].astype(float)
    array[index] = value
    return array


def call(reduction="none", **arguments):
    """Run the reference, forward and backward, at valid arguments but for those given."""
    arguments = {**VALID, **arguments}
    d_value = arguments.pop("d_value")
    _, cache = nll_forward(**arguments, reduction=reduction)
    return nll_backward(cache, d_value)


def call_parameters(**arguments):
    """Make `Parameters`, which calls the factors `scale`."""
    arguments = {**{name: VALID[name] for name in MIXTURE}, **arguments}
    return Parameters(arguments["pi_logits"], arguments["means"], arguments["scale_tril"])


def refused(error, parts, **arguments):
    """Assert that the call is refused with a message that has all the parts, in this order.

    What concerns the mixture is asserted of `Parameters` as well.
    """
    pattern = ".*".join(re.escape(part) for part in parts)
    with pytest.raises(error, match=pattern) as caught:
        call(**arguments)
    messages = [str(caught.value)]
    if set(arguments) <= set(MIXTURE):
        pattern = pattern.replace("scale_tril", "scale")
        with pytest.raises(error, match=pattern) as caught:
            call_parameters(**arguments)
        messages.append(str(caught.value))
    for message in messages:
        assert message.endswith("."), message
        assert ".." not in message, message
        assert "\n" not in message, message
    return messages[0]


def test_the_valid_arguments_are_valid():
    assert all(np.isfinite(g).all() for g in call())
    assert call_parameters().n_components == 2


# --- accepted -------------------------------------------------------------------------------------


@EACH_ARGUMENT
def test_lists_masked_arrays_and_memory_maps_are_accepted(name, tmp_path):
    np.save(tmp_path / "a.npy", VALID[name])
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    unmasked = np.ma.MaskedArray(VALID[name], mask=False)
    for given in (VALID[name].tolist(), unmasked, mapped):
        for got, expected in zip(call(**{name: given}), call(), strict=True):
            np.testing.assert_array_equal(got, expected)
            assert type(got) is np.ndarray


def test_extreme_values_that_are_accepted():
    assert call_parameters(pi_logits=[0.0, -np.inf]).pi_logits.tolist() == [0.0, -np.inf]
    assert call(pi_logits=[0.0, -np.inf]).pi_logits.tolist() == [0.0, 0.0]
    assert not call(sample_weight=[1, 0, 1]).x[1].any()
    call_parameters(scale_tril=changed("scale_tril", (1, 0, 1), -0.0))
    for integer in (2**53, -(2**53)):
        assert all(np.isfinite(g).all() for g in call(x=[[integer, 0], [0, 1], [2, 3]]))


# --- complex, object, string, masked --------------------------------------------------------------


@EACH_ARGUMENT
def test_complex_values_are_refused(name):
    parts = (f"{name} must hold real numbers; got complex values of dtype complex128", ".real")
    refused(TypeError, parts, **{name: VALID[name] + 0j})


@EACH_ARGUMENT
@pytest.mark.parametrize("dtype", [object, str, bytes])
def test_objects_and_strings_are_refused_even_of_numbers(name, dtype):
    array = VALID[name].astype(dtype)
    parts = (f"{name} must hold real numbers; got ndarray of dtype", str(array.dtype), "np.float64")
    refused(TypeError, parts, **{name: array})


class NAType:
    """As much of pandas.NA as matters: its type's name, and no float()."""

    def __repr__(self):
        return "<NA>"


DAY = np.timedelta64(1, "D")
NO_NUMBERS = [
    (NAType(), "<NA>", "Drop or impute"),
    (None, "None", "Drop or impute"),
    (np.datetime64("NaT"), "NaT", "Drop or impute what is missing. Count times"),
    (np.timedelta64("NaT"), "NaT", "Drop or impute what is missing. Count times"),
    (np.datetime64("2024-01-31"), "2024-01-31", "(t - t0) / np.timedelta64(1, "),
    (dt.date(2024, 1, 31), "2024-01-31", "(t - t0) / np.timedelta64(1, "),
    (DAY, "1 days", "(t - t0) / np.timedelta64(1, "),
    ("1,234", "'1,234'", "thousands separators"),
    ("1_2", "'1_2'", "thousands separators"),
    (b"12", "b'12'", "thousands separators"),
    ({}, "{}", "Convert it with"),
    (2j, "2j", "Convert it with"),
]


@EACH_ARGUMENT
@pytest.mark.parametrize(("entry", "text", "remedy"), NO_NUMBERS, ids=lambda v: str(v)[:12])
def test_entries_that_are_no_numbers_are_refused_with_their_place(name, entry, text, remedy):
    array = VALID[name].astype(object)
    last = tuple(n - 1 for n in array.shape)
    array[last] = entry
    place = f"1 of {array.size}, the first {text} at "
    axis = {"x": "column", "means": "column", "scale_tril": "column", "pi_logits": "component"}
    parts = ("must hold real numbers", place, f"{axis.get(name, 'row')} {last[-1]}.", remedy)
    refused(TypeError, parts, **{name: array})


@EACH_ARGUMENT
@pytest.mark.parametrize("kind", ["datetime64[D]", "timedelta64[s]"])
def test_times_are_refused_and_what_is_missing_is_named_first(name, kind):
    times = np.zeros(VALID[name].shape, dtype=kind)
    parts = (f"got ndarray of dtype {kind}", f"{times.size} of {times.size}, the first ", "t - t0")
    refused(TypeError, parts, **{name: times})
    last = tuple(n - 1 for n in times.shape)
    times[last] = "NaT"
    refused(TypeError, ("among them NaT at ", f" {last[-1]}. Drop", "t - t0"), **{name: times})


def test_the_remedy_for_times_works():
    t = np.array([["2024-01-31T00", "2024-02-01T12"]], dtype="datetime64[h]").T
    assert np.array_equal((t - t[0]) / np.timedelta64(1, "D"), [[0.0], [1.5]])
    t[1] = "NaT"
    refused(ValueError, ("x has values that are not finite",), x=(t - t[0]) / DAY * np.ones(2))


@pytest.mark.parametrize(
    "call_it",
    [
        lambda bad: gmm_np.nll(bad, LOGITS, MEANS, FACTORS),
        lambda bad: gmm_np.nll_value_and_grad(X, bad, MEANS, FACTORS),
        lambda bad: gmm_np.log_prob(X, LOGITS, bad, FACTORS),
        lambda bad: gmm_np.responsibilities(X, LOGITS, MEANS, bad),
        lambda bad: gmm_np.statistics(bad, Parameters(LOGITS, MEANS, FACTORS)),
        lambda bad: gmm_np.statistics([X, bad], Parameters(LOGITS, MEANS, FACTORS)),
        lambda bad: gmm_np.priors.Normal(bad, 1.0),
        lambda bad: gmm_np.parametrizations.LogCholesky(1, 1).unpack(bad),
        lambda bad: kmeans_start(bad, 1, np.random.default_rng(0)),
    ],
)
def test_every_public_function_refuses_entries_that_are_no_numbers(call_it):
    with pytest.raises(TypeError, match=r"must hold real numbers; .*<NA> at .*Drop or impute"):
        call_it(np.array([[0.0, 1.0], [NAType(), 1.0]], dtype=object))


NO_ARRAYS = [
    *((name, None, ("got NoneType",)) for name in VALID if name != "sample_weight"),
    *(
        (name, [["one", "two"]] * n, ("got list of dtype <U3",))
        for name, n in (("x", 3), ("means", 2))
    ),
    (
        "x",
        [[0.0, 1.0], ["n.d.", 3.0], [4.0, 5.0]],
        ("got list of dtype <U", "1 of 6, the first 'n.d.' at row 1, column 0"),
    ),
]


@pytest.mark.parametrize(("name", "value", "parts"), NO_ARRAYS)
def test_what_is_no_array_of_numbers_is_refused(name, value, parts):
    refused(TypeError, (f"{name} must hold real numbers; ", *parts), **{name: value})


AXES_OF = {  # of the last entry of each argument
    "x": "row 2, column 1",
    "pi_logits": "component 1",
    "means": "component 1, column 1",
    "scale_tril": "component 1, row 1, column 1",
    "sample_weight": "row 2",
    "d_value": "row 2",
}


@EACH_ARGUMENT
def test_masked_values_are_refused_with_their_place(name):
    masked = np.ma.MaskedArray(VALID[name], mask=False)
    masked[(-1,) * masked.ndim] = np.ma.masked
    place = f"1 of {masked.size}, the first at {AXES_OF[name]}."
    parts = (f"{name} has masked values: {place}", f"{name}.filled(value)")
    refused(TypeError, parts, **{name: masked})


@EACH_ARGUMENT
def test_long_doubles_are_refused_where_they_are_wider_than_doubles(name):
    wide = VALID[name].astype(np.longdouble)
    if wide.itemsize > 8:
        parts = (
            f"{name} must be float64 or narrower",
            "without loss",
            f"{name}.astype(np.float64)",
        )
        refused(TypeError, parts, **{name: wide})
    else:  # on this machine it is a double by another name
        for got, expected in zip(call(**{name: wide}), call(), strict=True):
            np.testing.assert_array_equal(got, expected)


# --- rank and shape -------------------------------------------------------------------------------


def given(name, value):
    return {name: value}


def at(name, index, value):
    return {name: changed(name, index, value)}


NOT_FINITE = "{} has values that are not finite: "
SCALAR = "d_value must have the shape of the value, () for reduction='{}'"
OF_NONE = "d_value must have the shape of the value, (3,) for reduction='none'"
# What is given in place of the valid arguments, and parts of the message.
REFUSED = [
    *(
        (
            {"x": [[0, 1], [2, 3], [4, n]]},
            (
                "x has integers beyond 2**53",
                f"1 of 6, the first {n} at row 2, column 1",
                "Subtract an offset first",
            ),
        )
        for n in (2**53 + 1, -(2**53) - 1)
    ),
    (
        {"means": np.array([[0, 2**64 - 1], [1, 2]], dtype=np.uint64)},
        ("means has integers beyond 2**53", "1 of 4, the first 18446744073709551615 at"),
    ),
    # Rank and shape.
    (
        {"x": [1.0, 2.0, 3.0]},
        (
            "x must have two axes [N, D]; got shape (3,)",
            "x.reshape(-1, 1) if it holds one-dimensional samples",
            "x.reshape(1, -1) if it is a single sample",
        ),
    ),
    *(
        (given(name, np.ones(shape)), (f"{name} must have {expected}; got shape {shape}",))
        for name, expected, shapes in (
            ("x", "two axes [N, D]", [(), (3, 2, 1)]),
            ("pi_logits", "one axis [K]", [(), (1, 2)]),
            ("means", "two axes [K, D]", [(), (2,), (2, 2, 1)]),
            ("scale_tril", "three axes [K, D, D]", [(), (2,), (2, 2), (1, 2, 2, 2)]),
        )
        for shape in shapes
    ),
    *(
        (
            given(name, [[1.0, 2.0], [3.0]]),
            (f"{name} must be a rectangular array", "Give every row the same length"),
        )
        for name in ("x", "pi_logits", "means", "scale_tril", "sample_weight")
    ),
    *(
        (
            given(name, np.ones(shape)),
            (f"{name} is empty", axes, "every length at least 1", f"got {shape}"),
        )
        for name, axes, shapes in (
            ("x", "[N, D]", [(0, 2), (3, 0)]),
            ("pi_logits", "[K]", [(0,)]),
            ("means", "[K, D]", [(0, 2), (2, 0)]),
            ("scale_tril", "[K, D, D]", [(0, 2, 2), (2, 0, 0)]),
        )
        for shape in shapes
    ),
    (
        {"pi_logits": [0.0, 0.0, 0.0]},
        (
            "pi_logits and means disagree",
            "pi_logits has shape (3,), so K = 3",
            "means has shape (2, 2), so K = 2",
            "one logit and one row of means for each component",
        ),
    ),
    ({"means": np.ones((4, 2))}, ("pi_logits has shape (2,)", "means has shape (4, 2)")),
    *(
        (
            {"scale_tril": np.ones(shape)},
            (
                "means and scale_tril disagree",
                "means has shape (2, 2)",
                "must have shape [K, D, D] = (2, 2, 2)",
                f"got {shape}",
                "one D x D Cholesky factor for each component",
            ),
        )
        for shape in ((3, 2, 2), (2, 3, 3), (2, 2, 3), (2, 3, 2))
    ),
    *(
        (
            {"x": np.ones((3, d))},
            (
                "x and means disagree",
                f"x has shape (3, {d}), so D = {d}",
                "D = 2",
                "one value for each column of means",
            ),
        )
        for d in (1, 3)
    ),
    # Values that are not finite, or not positive.
    *(
        (at(name, index, value), (NOT_FINITE.format(name) + place.format(value) + ". ",))
        for name, index, place in (
            ("x", (1, 0), "1 of 6, the first {} at row 1, column 0"),
            ("means", (1, 0), "1 of 4, the first {} at component 1, column 0"),
            ("scale_tril", (1, 1, 0), "1 of 8, the first {} at component 1, row 1, column 0"),
            ("sample_weight", (2,), "1 of 3, the first {} at row 2"),
            ("d_value", (0,), "1 of 3, the first {} at row 0"),
        )
        for value in (np.nan, np.inf, -np.inf)
    ),
    (
        {"x": [[0.0, 1.0], [2.0, np.inf], [np.nan, -np.inf]]},
        (NOT_FINITE.format("x") + "3 of 6, the first inf at row 1, column 1",),
    ),
    *(
        (
            {"pi_logits": [0.0, value]},
            (
                "pi_logits has values that are not finite",
                f"1 of 2, the first {value} at component 1",
            ),
        )
        for value in (np.nan, np.inf)
    ),
    *(
        ({"d_value": value, "reduction": "mean"}, (NOT_FINITE.format("d_value"), str(value)))
        for value in (np.nan, np.inf, -np.inf)
    ),
    (
        {"pi_logits": [-np.inf, -np.inf]},
        ("pi_logits are all -inf", "every component is off", "at least one component"),
    ),
    (
        at("scale_tril", (1, 0, 1), 0.25),
        (
            "scale_tril is not lower triangular",
            "1 of 8, the first 0.25 at component 1, row 0, column 1",
            "np.tril(scale_tril)",
            "np.linalg.cholesky(scale_tril) if these are covariances",
        ),
    ),
    # Weights, reductions, d_value.
    (
        {"sample_weight": [1.0, -1.0, 1.0]},
        ("sample_weight has negative values: 1 of 3, the first -1.0 at row 1", "weight of 0"),
    ),
    *(
        (
            {"sample_weight": np.ones(shape)},
            ("sample_weight must have shape [N] = (3,)", "for each row of x", f"got {shape}"),
        )
        for shape in ((), (1,), (2,), (4,), (3, 1), (1, 3))
    ),
    (
        {"sample_weight": [0, 0, 0]},
        ("sample_weight is zero for every row", "at least one row a positive weight"),
    ),
    (
        {"sample_weight": [1e308] * 3},
        ("sample_weight adds up to more than a double can hold", "by their maximum"),
    ),
    *(
        (
            given("reduction", one),
            ('reduction must be one of "mean", "sum", "none"', f"got {one!r}"),
        )
        for one in ("average", "", None, 1, ["mean"])
    ),
    *(
        (
            {"d_value": np.ones(shape), "reduction": reduction},
            (SCALAR.format(reduction), f"got {shape}", "A single number"),
        )
        for reduction, shape in (("mean", (1,)), ("sum", (1,)), ("mean", (3,)), ("sum", (1, 1)))
    ),
    *(
        ({"d_value": np.ones(shape)}, (OF_NONE, f"got {shape}", "np.ones(N)"))
        for shape in ((), (1,), (2,), (3, 1))
    ),
]


@pytest.mark.parametrize(("arguments", "parts"), REFUSED, ids=lambda v: str(v)[:50])
def test_values_and_shapes_that_cannot_be_are_refused_with_place_and_remedy(arguments, parts):
    refused(ValueError, parts, **arguments)


# --- Cholesky factors -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -0.0, -2.0])
def test_diagonal_that_is_not_positive_is_refused_with_component_and_row(value):
    parts = (
        "scale_tril has diagonal entries that are not positive",
        f"1 of 4, the first {value} at component 1, row 0",
        "np.linalg.cholesky",
    )
    refused(ValueError, parts, **at("scale_tril", (1, 0, 0), value))


def test_remedies_for_a_factor_work():
    covariances = FACTORS @ FACTORS.transpose(0, 2, 1)
    refused(ValueError, ("np.linalg.cholesky(scale_tril)",), scale_tril=covariances)
    call(scale_tril=np.linalg.cholesky(covariances))
    garbage = FACTORS + np.triu(np.ones((2, 2)), 1)
    refused(ValueError, ("np.tril(scale_tril)",), scale_tril=garbage)
    call(scale_tril=np.tril(garbage))
    negated = FACTORS * np.array([-1.0, 1.0])
    refused(ValueError, ("a negative diagonal entry may be negated",), scale_tril=negated)
    call(scale_tril=negated * np.array([-1.0, 1.0]))


@pytest.mark.parametrize("family", ["diagonal", "", None, 3])
def test_unknown_family_is_refused(family):
    message = rf'^family must be one of .*"full".*; got {family!r}'
    with pytest.raises(ValueError, match=message):
        Parameters(LOGITS, MEANS, FACTORS, family=family)
    with pytest.raises(ValueError, match=message):
        Parameters.from_covariances([0.5, 0.5], MEANS, COVARIANCES["full"], family)


# --- families -------------------------------------------------------------------------------------


SCALES = {
    "full": FACTORS,
    "tied": FACTORS[1],
    "diag": np.array([[1.0, 0.5], [2.0, 4.0]]),
    "tied_diag": np.array([3.0, 0.25]),
    "spherical": np.array([0.5, 2.0]),
    "shared_spherical": np.array(3.0),
    "constant": FACTORS,
}
AXES = {
    "full": "[K, D, D] = (2, 2, 2)",
    "tied": "[D, D] = (2, 2)",
    "diag": "[K, D] = (2, 2)",
    "tied_diag": "[D] = (2,)",
    "spherical": "[K] = (2,)",
    "constant": "[K, D, D] = (2, 2, 2)",
}
EACH_FAMILY = pytest.mark.parametrize("family", SCALES)
DEVIATIONS = ["diag", "tied_diag", "spherical", "shared_spherical"]
FACTORED = ["full", "tied", "constant"]


def scale_refused(parts, scale, family):
    pattern = ".*".join(re.escape(part) for part in parts)
    with pytest.raises(ValueError, match=pattern) as caught:
        Parameters(LOGITS, MEANS, scale, family)
    message = str(caught.value)
    assert message.endswith(".")
    assert ".." not in message
    assert "\n" not in message
    return message


def test_the_families_are_those_of_the_tests():
    assert set(FAMILIES) == set(SCALES)


@EACH_FAMILY
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_parameters_hold_copies_of_what_they_were_given(family, dtype):
    given = [a.astype(dtype) for a in (LOGITS, MEANS, SCALES[family])]
    parameters = Parameters(*given, family)
    listed = Parameters(*(a.tolist() for a in given), family)
    odd = Parameters(np.ma.MaskedArray(LOGITS), np.asfortranarray(MEANS), SCALES[family], family)
    for array in given:
        array *= 7.0  # and what was given can still be written to
    for made in (parameters, listed, odd):
        assert (made.n_components, made.n_features, made.family) == (2, 2, family)
        held = (made.pi_logits, made.means, made.scale)
        for array, expected in zip(held, (LOGITS, MEANS, SCALES[family]), strict=True):
            assert array.dtype == (dtype if made is parameters else np.float64)
            assert type(array) is np.ndarray
            assert not array.flags.writeable
            assert array.shape == expected.shape
            np.testing.assert_array_equal(array, expected)
    assert Parameters(*(a.tolist() for a in (LOGITS, MEANS, FACTORS))).family == "full"


@EACH_FAMILY
def test_each_family_has_its_factors_and_covariances(family):
    for k, d in ((1, 1), (1, 3), (4, 1), (3, 2), (2, 3)):
        scale = random_scale(0, family, k, d).astype(np.float32)
        parameters = Parameters(np.zeros(k), np.zeros((k, d)), scale, family)
        assert (parameters.n_components, parameters.n_features) == (k, d)
        factors, covariances = parameters.factors(), parameters.covariances()
        expected = expand(scale, family, k, d)
        assert factors.dtype == covariances.dtype == np.float64
        np.testing.assert_array_equal(factors, expected)
        squared = np.einsum("kij,klj->kil", expected, expected)
        np.testing.assert_allclose(covariances, squared, rtol=1e-15, atol=1e-16)
        factors[0, 0, 0] = 17.0  # their own memory, also where components share
        np.testing.assert_array_equal(factors[1:], expected[1:])
        np.testing.assert_array_equal(parameters.factors(), expected)


@pytest.mark.parametrize("family", AXES)
@pytest.mark.parametrize("shape", [(3, 2, 2), (2, 3, 3), (3, 3), (2, 3), (3, 2), (3,), (1,)])
def test_scale_of_another_shape_is_refused_with_both_and_what_the_family_wants(family, shape):
    message = scale_refused(("scale",), np.ones(shape), family)
    assert str(shape) in message
    axes = AXES[family]
    if len(shape) == axes.count(",") - axes.split(" = ")[1].count(",") + 1:
        assert "means has shape (2, 2)" in message
        assert f"must have shape {axes}; got {shape}" in message
    else:
        assert axes.split(" = ")[0] in message
    assert "Give" in message or "np.stack" in message


SHARED = 'must be a single number, shape (), for family="shared_spherical"; got shape {}'


@pytest.mark.parametrize(
    ("family", "shape", "parts"),
    [
        *(
            ("shared_spherical", shape, (SHARED.format(shape), "Give a single standard deviation"))
            for shape in ((1,), (2,), (1, 1), (2, 2, 2))
        ),
        *(
            (family, shape, (f"This shape would fit family={fitting}.",))
            for family, shape, fitting in (
                ("full", (2,), '"tied_diag" or "spherical"'),
                ("full", (2, 2), '"tied" or "diag"'),
                ("diag", (2, 2, 2), '"full" or "constant"'),
                ("spherical", (), '"shared_spherical"'),
                ("shared_spherical", (2,), '"tied_diag" or "spherical"'),
            )
        ),
        *(
            (family, shape, ("scale is empty", axes.split(" = ")[0], f"got {shape}"))
            for family, axes in AXES.items()
            for shape in [(0,) * SCALES[family].ndim]
        ),
    ],
)
def test_scale_of_no_component_or_of_another_family_is_recognised(family, shape, parts):
    scale_refused(parts, np.ones(shape), family)


LAST = {
    "full": " at component 1, row 1, column 1",
    "tied": " at row 1, column 1",
    "diag": " at component 1, column 1",
    "tied_diag": " at column 1",
    "spherical": " at component 1",
    "shared_spherical": "",
    "constant": " at component 1, row 1, column 1",
}


@EACH_FAMILY
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -0.0, -2.0])
def test_scale_that_is_not_finite_or_not_positive_is_refused_with_its_place(family, value):
    scale = SCALES[family].copy()
    scale[(-1,) * scale.ndim] = value
    place = f"1 of {scale.size}, the first {value}{LAST[family]}. "
    if not np.isfinite(value):
        parts = (f"scale has values that are not finite: {place}",)
    elif family in DEVIATIONS:
        parts = (f"scale has standard deviations that are not positive: {place}", "square roots")
    else:
        place = f"1 of {scale[..., 0].size}, the first {value}{LAST[family].rsplit(',', 1)[0]}. "
        parts = (f"diagonal entries that are not positive: {place}",)
    scale_refused(parts, scale, family)


@pytest.mark.parametrize("family", FACTORED)
@pytest.mark.parametrize("value", [5e-324, -1e300])
def test_factor_of_each_family_is_lower_triangular(family, value):
    scale = SCALES[family].copy()
    scale[..., 0, 1] = value
    place = {"tied": f"1 of 4, the first {value} at row 0, column 1"}.get(
        family, f"2 of 8, the first {value} at component 0, row 0, column 1"
    )
    scale_refused(("not lower triangular", f"above the diagonal: {place}. "), scale, family)
    for n_dims in range(1, 6):  # every place is looked at
        for row, column in zip(*np.triu_indices(n_dims, 1), strict=True):
            scale = np.eye(n_dims)
            scale[row, column] = value
            whole = scale if family == "tied" else np.stack([np.eye(n_dims), scale])
            with pytest.raises(ValueError, match=f"row {row}, column {column}"):
                Parameters(LOGITS, np.zeros((2, n_dims)), whole, family)


@EACH_FAMILY
def test_values_whose_squares_overflow_are_finite(family):
    # Finiteness is looked for by a sum of squares first.
    large = np.sign(SCALES[family]) * 1e200
    scale = np.where(SCALES[family] == 0, 0.0, large)
    parameters = Parameters(LOGITS, MEANS + 1e300, scale, family)
    np.testing.assert_array_equal(parameters.scale, scale)


@EACH_FAMILY
def test_each_family_survives_pickling_and_replacing(family):
    parameters = Parameters(LOGITS, MEANS, SCALES[family], family)
    copy = pickle.loads(pickle.dumps(parameters))
    assert copy.equals(parameters)
    moved = dataclasses.replace(parameters, means=MEANS + 1)
    assert moved.family == family
    assert not moved.equals(parameters)
    assert parameters.equals(Parameters(LOGITS, MEANS, FACTORS)) is (family == "full")


def test_masked_scale_is_refused_with_the_place_of_its_family():
    masked = np.ma.MaskedArray(SCALES["diag"], mask=[[False, False], [True, False]])
    with pytest.raises(TypeError, match=r"1 of 4, the first at component 1, column 0\."):
        Parameters(LOGITS, MEANS, masked, "diag")


# --- Parameters and Gradients ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pi_logits", "means", "scale"])
def test_parameters_are_read_only(name):
    parameters = Parameters(LOGITS.copy(), MEANS.copy(), FACTORS.copy())
    with pytest.raises(ValueError, match="read-only"):
        getattr(parameters, name)[...] = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(parameters, name, np.zeros(2))


def test_parameters_keep_the_dtype_of_each_argument():
    parameters = Parameters(
        LOGITS.astype(np.float32), MEANS.astype(">f8"), FACTORS.astype(np.float16)
    )
    assert parameters.pi_logits.dtype == np.float32
    assert parameters.means.dtype == np.float64
    assert parameters.means.dtype.isnative
    assert parameters.scale.dtype == np.float16
    integers = Parameters([0, 1], [[0], [1]], [[[1]], [[2]]])
    assert {a.dtype for a in (integers.pi_logits, integers.means, integers.scale)} == {
        np.dtype(np.float64)
    }


def test_gradients_are_named_and_ordered():
    assert Gradients._fields == ("pi_logits", "means", "scale", "x")
    assert Gradients(*np.ones((3, 1))).x is None


@pytest.mark.parametrize(
    ("argument", "dtype"),
    [
        (np.ones(2, np.float32), "float32"),
        (np.ones(2, ">f4"), "float32"),
        (np.ones(2, np.float16), "float16"),
        (np.ones(2), "float64"),
        (np.ones(2, int), "float64"),
        (np.ones(2, bool), "float64"),
        ([1, 2], "float64"),
    ],
)
def test_gradients_go_back_in_the_dtype_of_a_float_argument(argument, dtype):
    assert gradient_dtype(argument) == np.dtype(dtype)
    assert gradient_dtype(argument).isnative


def test_cast_beyond_float32_is_an_infinity_without_a_warning():
    narrow = cast_gradient(np.array([1e300, -1e300, 1e-300, 1.5]), np.float32)
    assert narrow.dtype == np.float32
    assert narrow.tolist() == [np.inf, -np.inf, 0.0, 1.5]


# --- from covariances -----------------------------------------------------------------------------

COVARIANCES = {
    "full": FACTORS @ FACTORS.transpose(0, 2, 1),
    "tied": FACTORS[0] @ FACTORS[0].T,
    "diag": np.array([[1.0, 4.0], [9.0, 0.25]]),
    "tied_diag": np.array([4.0, 0.25]),
    "spherical": np.array([4.0, 0.25]),
    "shared_spherical": np.array(4.0),
    "constant": FACTORS @ FACTORS.transpose(0, 2, 1),
}


def covariances_refused(parts, covariances, family="full", weights=(0.25, 0.75), means=MEANS):
    with pytest.raises(ValueError, match=".*".join(re.escape(part) for part in parts)) as caught:
        Parameters.from_covariances(weights, means, covariances, family)
    message = str(caught.value)
    assert message.endswith(".")
    assert "scale" not in message
    assert "factor" not in message or "not symmetric" in message


@EACH_FAMILY
def test_parameters_from_covariances_have_those_weights_and_covariances(family):
    given = COVARIANCES[family]
    parameters = Parameters.from_covariances([0.25, 0.75], MEANS, given.tolist(), family)
    assert parameters.family == family
    assert parameters.scale.shape == given.shape
    np.testing.assert_allclose(parameters.weights(), [0.25, 0.75], rtol=1e-15)
    np.testing.assert_array_equal(parameters.means, MEANS)
    dense = {"diag": [np.diag(v) for v in COVARIANCES["diag"]]}
    dense["tied_diag"] = np.diag(COVARIANCES["tied_diag"])
    dense["spherical"] = [v * np.eye(2) for v in COVARIANCES["spherical"]]
    expected = np.broadcast_to(
        dense.get(family, given * np.eye(2) if given.ndim == 0 else given), (2, 2, 2)
    )
    np.testing.assert_allclose(parameters.covariances(), expected, rtol=1e-15)


def test_parameters_from_covariances_have_the_dtypes_of_what_they_were_made_of():
    single = [np.asarray(a, np.float32) for a in ([0.5, 0.5], MEANS, COVARIANCES["full"])]
    parameters = Parameters.from_covariances(*single)
    for array in (parameters.pi_logits, parameters.means, parameters.scale):
        assert array.dtype == np.float32


def test_a_factor_is_as_good_as_its_covariance_whatever_the_condition_and_the_units():
    # The inverse Hilbert matrices have integer entries and, as Sigma, an exact determinant:
    # 1 / det = prod (2 i)! (2 i + 1)! / i!^4, here by products of binomials, all exact in Python.
    from math import comb, log

    n = 8  # condition 1.5e10
    inverse_hilbert = [
        [
            (-1) ** (i + j)
            * (i + j + 1)
            * comb(n + i, n - j - 1)
            * comb(n + j, n - i - 1)
            * comb(i + j, i) ** 2
            for j in range(n)
        ]
        for i in range(n)
    ]
    log_det = sum(log((2 * i + 1) * comb(2 * i, i) ** 2) for i in range(n))
    for units in (np.ones(n), 10.0 ** np.arange(-n, n, 2)):
        covariance = np.array(inverse_hilbert, dtype=float) * units[:, None] * units
        parameters = Parameters.from_covariances([1.0], np.zeros((1, n)), covariance[None])
        found = 2 * np.log(np.diagonal(parameters.scale[0])).sum()
        # A relative rounding of 1e-16 of the entries, times the condition, is 1.6e-6.
        assert found == pytest.approx(log_det + 2 * np.log(units).sum(), abs=2e-6)
        backward = (parameters.covariances()[0] - covariance) / np.sqrt(
            np.outer(np.diagonal(covariance), np.diagonal(covariance))
        )
        assert np.abs(backward).max() < n * 2.3e-16


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ([0.5, 0.4], ("weights must add up to 1", "a sum of 0.9.", "weights / np.sum(weights)")),
        ([0.33, 0.66], ("weights must add up to 1", "a sum of 0.99.")),
        ([1.5, -0.5], ("weights has negative values: 1 of 2, the first -0.5 at component 1",)),
        ([0.0, 0.0], ("weights is zero for every component",)),
        ([0.5, np.nan], ("weights has values that are not finite", "nan at component 1")),
        ([1.0], ("weights and means disagree", "(1,)", "(2, 2)", "one weight and one row")),
        ([[0.5, 0.5]], ("weights must have one axis [K]", "np.ravel(weights)")),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, parts):
    covariances_refused(parts, COVARIANCES["full"], weights=weights)


def test_weights_are_taken_within_the_rounding_of_four_decimals():
    for n_components in (2, 3, 7, 30):
        for decimals in (4, 5, 7, 12):
            written = np.round(np.full(n_components, 1 / n_components), decimals)
            found = Parameters.from_covariances(
                written, np.zeros((n_components, 1)), np.ones(n_components), "spherical"
            )
            assert found.weights().sum() == pytest.approx(1, abs=1e-15)
    off = Parameters.from_covariances([1.0, 0.0], MEANS, COVARIANCES["full"])
    assert off.pi_logits.tolist() == [0.0, -np.inf]
    assert off.weights().tolist() == [1.0, 0.0]


@EACH_FAMILY
def test_covariances_of_another_shape_are_refused_with_what_there_has_to_be(family):
    wanted = "covariance matri" if SCALES[family].ndim > 1 and family != "diag" else "variance"
    shape = (*COVARIANCES[family].shape[:-1], 3) if family != "shared_spherical" else (3,)
    covariances_refused(("covariances", str(shape), wanted), np.ones(shape), family)


@EACH_FAMILY
def test_covariances_that_are_not_positive_are_refused_with_their_place(family):
    bad = COVARIANCES[family].copy()
    bad[(-1,) * bad.ndim] = 0.0
    named = {"tied": "row 1", "diag": "component 1, column 1", "spherical": "component 1"}
    named["tied_diag"] = "column 1"
    place = "" if family == "shared_spherical" else f"at {named.get(family, 'component 1, row 1')}."
    covariances_refused(("covariances has variances that are not positive", place), bad, family)
    bad[(-1,) * bad.ndim] = np.nan
    covariances_refused(("covariances has values that are not finite",), bad, family)


@pytest.mark.parametrize("units", [1.0, 1e-9, 1e150])
@pytest.mark.parametrize("family", ["full", "tied", "constant"])
def test_matrices_that_are_no_covariances_are_refused_with_their_component(family, units):
    where = "" if family == "tied" else "component 1"

    def last(matrix):
        changed = np.array(COVARIANCES[family] * units)
        changed[(-1,) if changed.ndim == 3 else ()] = np.array(matrix) * units
        return changed

    indefinite, singular = [[1.0, 2.0], [2.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]
    rounded = [[1.0, 1.0 - 1e-16], [1.0 - 1e-16, 1.0]]
    for matrix in (indefinite, singular, rounded):
        parts = ("covariances are not positive definite", where, "columns that depend on others")
        covariances_refused(parts, last(matrix), family)
    parts = ("covariances are not symmetric", where, "row 0, column 1", "its mirror image is")
    covariances_refused(parts, last([[1.0, 0.0], [0.5, 1.0]]), family)
    covariances_refused(parts, last([[1.0, 0.5], [0.5001, 1.0]]), family)
    Parameters.from_covariances([0.25, 0.75], MEANS, last([[1.0, 0.5], [0.5 + 1e-7, 1.0]]), family)


def test_asymmetry_is_judged_in_the_units_of_its_columns():
    units = np.array([1e-6, 1e6])
    covariance = np.array([[1.0, 0.5], [0.4, 1.0]]) * units[:, None] * units
    covariances_refused(("not symmetric",), covariance, "tied")


@pytest.mark.parametrize("family", ["tied", "tied_diag", "shared_spherical"])
def test_factors_of_shared_covariances_can_be_inverted(family):
    """They are stored row after row, also where they are copies of one."""
    p = random_parameters(1, family, 4, 3)
    factors = p.factors()
    assert factors.flags.c_contiguous
    unit = np.broadcast_to(np.eye(3), (4, 3, 3))
    np.testing.assert_allclose(invert_factors(factors) @ factors, unit, atol=1e-13)
