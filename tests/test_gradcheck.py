"""The check is checked: right gradients pass, and one entry that is off by a thousandth fails."""

import math

import numpy as np
import pytest
from problems import random_problem

from gmm_np import BlockCheck, GradientReport, check_grad
from gmm_np.reference import nll_backward, nll_forward

MODES = pytest.mark.parametrize("entrywise", [False, True], ids=["directions", "entrywise"])
NAMES = ("x", "pi_logits", "means", "scale_tril")
TOLERANCE = 1e-7  # the default of `check_grad`
# What its docstring promises to tell apart: entries down to this share of the block's largest.
SMALLEST = 1e-6


def nll(x, pi_logits, means, scale_tril):
    """The reference, with gradients in the order of its arguments."""
    value, cache = nll_forward(x, pi_logits, means, scale_tril)
    d = nll_backward(cache)
    return value, [d.x, d.pi_logits, d.means, d.scale]


def nll_at(problem):
    """The reference with its right gradients at one problem, which is all that a check asks for."""
    _, gradients = nll(*problem)
    return lambda *arguments: (nll_forward(*arguments)[0], gradients)


def free_of(problem):
    return {"scale_tril": np.tri(problem.x.shape[1], dtype=bool)}


def check(function, problem, entrywise, **options):
    return check_grad(
        function, problem._asdict(), free=free_of(problem), entrywise=entrywise, **options
    )


def with_wrong(block, change):
    """The reference with the gradient of one block replaced by `change` of it."""

    def wrong(*arguments):
        value, gradients = nll(*arguments)
        position = NAMES.index(block)
        gradients[position] = change(gradients[position])
        return value, gradients

    return wrong


def passed_blocks(report):
    return [block.name for block in report.blocks if block.passed]


# --- right gradients pass -------------------------------------------------------------------------


@MODES
def test_right_gradients_pass(entrywise):
    worst, checked = (0.0, None), 0
    for seed in range(15 if entrywise else 40):
        problem = random_problem(seed, 1 + seed % 6, 1 + seed % 4, 1 + seed % 3)
        if len(problem.pi_logits) == 1:  # the gradient of its logit is zero: nothing to tell
            assert not nll(*problem)[1][1].any()
        report = check(nll_at(problem), problem, entrywise, seed=seed)
        assert report, f"seed {seed}\n{report}"
        assert [block.name for block in report.blocks] == list(NAMES)
        assert [block.shape for block in report.blocks] == [a.shape for a in problem]
        worst = max(worst, (report.worst.error, f"seed {seed}\n{report}"), key=lambda row: row[0])
        checked += sum(block.checked for block in report.blocks)
    assert worst[0] < TOLERANCE, worst[1]
    assert checked > 300


@MODES
def test_right_gradients_pass_far_from_one(entrywise):
    # Steps go in proportion to each entry, so that units do not count.
    for seed, scale in enumerate((1e-8, 1e-3, 1e4, 1e9)):
        x, logits, means, factors = random_problem(seed, 4, 2, 2)
        problem = random_problem(seed, 4, 2, 2)._replace(
            x=scale * x, means=scale * means, scale_tril=scale * factors, pi_logits=logits
        )
        report = check(nll, problem, entrywise)
        assert report, f"scale {scale}\n{report}"


@MODES
def test_gradient_of_exactly_zero_passes_where_the_value_is_constant(entrywise):
    def constant_in_b(a, b):
        return float(a @ a), (2 * a, np.zeros_like(b))

    assert check_grad(constant_in_b, {"a": [1.0, 2.0], "b": [3.0, -4.0]}, entrywise=entrywise)


@MODES
def test_argument_of_zeros_can_be_checked(entrywise):
    def function(a):
        return float(np.sum(np.exp(a) + a**3)), (np.exp(a) + 3 * a**2,)

    assert check_grad(function, {"a": np.zeros(4)}, entrywise=entrywise)
    assert check_grad(function, {"a": [0.0, 1.0, 0.0, -2.0]}, entrywise=entrywise)


def test_directions_are_as_many_as_asked_for_and_entries_are_all():
    problem = random_problem(2, 3, 2, 2)
    for n_directions in (1, 7):
        report = check(nll, problem, False, n_directions=n_directions)
        assert [block.checked for block in report.blocks] == [n_directions] * 4
        assert all(block.worst is None for block in report.blocks)
    report = check(nll, problem, True)
    # Of the two 2 x 2 factors, three entries each are free.
    assert [block.checked for block in report.blocks] == [6, 2, 4, 6]
    assert report.blocks[3].worst[1] >= report.blocks[3].worst[2]


# --- wrong gradients fail -------------------------------------------------------------------------


def plant(factor, place):
    def change(gradient):
        gradient = gradient.copy()
        gradient[place] *= factor
        return gradient

    return change


@MODES
@pytest.mark.parametrize("block", NAMES)
def test_any_one_entry_off_by_a_thousandth_fails_and_is_named(block, entrywise):
    position = NAMES.index(block)
    planted, of_all = 0, 0
    for seed, sizes in enumerate([(2, 2, 2), (3, 3, 1), (2, 2, 3), (1, 4, 2)]):
        problem = random_problem(seed, *sizes)
        right = nll(*problem)[1][position]
        free = np.broadcast_to(free_of(problem).get(block, True), right.shape)
        large_enough = free & (np.abs(right) >= SMALLEST * np.abs(right).max())
        of_all += int(np.count_nonzero(free))
        for place in map(tuple, np.argwhere(large_enough).tolist()):
            factor = 1.001 if planted % 2 else 0.999
            # None leaves the other arguments alone; the check calls for gradients only once.
            gradients = [None] * 4
            gradients[position] = plant(factor, place)(right)

            def function(*arguments, gradients=gradients):
                return nll_forward(*arguments)[0], gradients

            report = check(function, problem, entrywise, seed=planted)
            message = f"seed {seed}, {block}{list(place)} times {factor}\n{report}"
            assert not report, message
            assert report.worst.worst == place, message
            planted += 1
    assert planted >= 0.95 * of_all, f"only {planted} of {of_all} entries are large enough"
    assert planted >= 10


@MODES
def test_small_entry_off_by_a_thousandth_fails_beside_a_large_one(entrywise):
    # From the block's largest down to a millionth of it.
    sizes = np.array([1.0, -1e-2, 1e-4, -1e-5, 2e-6])

    def function(a, place=None):
        gradient = sizes * np.cos(a)
        if place is not None:
            gradient[place] *= 1.001
        return float(sizes @ np.sin(a)), (gradient,)

    a = {"a": np.array([0.3, 0.5, -0.7, 0.9, 1.1])}
    assert check_grad(function, a, entrywise=entrywise)
    for place in range(5):
        report = check_grad(lambda a, p=place: function(a, p), a, entrywise=entrywise)
        assert not report, f"entry {place}\n{report}"
        assert report.blocks[0].worst == (place,), f"entry {place}\n{report}"


@MODES
@pytest.mark.parametrize("size", [1.0, 0.1, 0.03])
def test_small_entry_of_a_small_argument_off_by_a_thousandth_fails(size, entrywise):
    # As in random_problem(1347, 4, 3, 4), entry (2, 3, 0) of scale_tril: steps in proportion to an
    # argument of 0.03 are short, beside a value of 7 and a gradient of 0.7 elsewhere.
    def function(a, factor=1.0):
        gradient = np.array([0.7 * math.cos(a[0]), 4e-6 * math.cos(a[1] / size) * factor])
        return 7.0 + 0.7 * math.sin(a[0]) + 4e-6 * size * math.sin(a[1] / size), (gradient,)

    a = {"a": np.array([0.5, size])}
    for seed in range(5):
        assert check_grad(function, a, entrywise=entrywise, seed=seed)
        report = check_grad(lambda a: function(a, 1.001), a, entrywise=entrywise, seed=seed)
        assert not report, f"seed {seed}\n{report}"
        assert report.worst.worst == (1,), f"seed {seed}\n{report}"


@MODES
@pytest.mark.parametrize("block", NAMES)
def test_wrong_sign_fails(block, entrywise):
    for seed in range(3):
        problem = random_problem(seed, 3, 2, 2)
        report = check(with_wrong(block, np.negative), problem, entrywise)
        assert passed_blocks(report) == [n for n in NAMES if n != block]
        assert report.worst.error > 0.5


@MODES
@pytest.mark.parametrize("block", NAMES)
def test_gradient_of_zeros_fails(block, entrywise):
    report = check(with_wrong(block, np.zeros_like), random_problem(1, 3, 2, 2), entrywise)
    assert passed_blocks(report) == [n for n in NAMES if n != block]


@MODES
@pytest.mark.parametrize("block", NAMES)
def test_sum_for_mean_fails(block, entrywise):
    report = check(with_wrong(block, lambda g: 3 * g), random_problem(1, 3, 2, 2), entrywise)
    assert passed_blocks(report) == [n for n in NAMES if n != block]


@MODES
def test_transposed_gradient_of_a_factor_fails(entrywise):
    problem = random_problem(3, 4, 2, 3)
    transposed = with_wrong("scale_tril", lambda g: g.transpose(0, 2, 1))
    report = check(transposed, problem, entrywise)
    assert passed_blocks(report) == ["x", "pi_logits", "means"]
    # Even with its upper triangle cut off, or where nothing is said to be fixed.
    for wrong in (
        with_wrong("scale_tril", lambda g: np.tril(g.transpose(0, 2, 1))),
        with_wrong("scale_tril", lambda g: np.tril(g.transpose(0, 2, 1) + np.triu(g, 1))),
    ):
        assert passed_blocks(check(wrong, problem, entrywise)) == ["x", "pi_logits", "means"]


@MODES
def test_missing_determinant_fails(entrywise):
    """The term n_k / L_ii of the factor's gradient, which comes from the log-determinant."""
    problem = random_problem(4, 5, 2, 2)

    def without_determinant(x, pi_logits, means, scale_tril):
        _, cache = nll_forward(x, pi_logits, means, scale_tril)
        value, gradients = nll(x, pi_logits, means, scale_tril)
        n_k = cache.resp.mean(axis=0)
        diagonal = np.eye(2) / np.diagonal(scale_tril, axis1=1, axis2=2)[:, :, None]
        gradients[3] = gradients[3] - n_k[:, None, None] * diagonal
        return value, gradients

    report = check(without_determinant, problem, entrywise)
    assert passed_blocks(report) == ["x", "pi_logits", "means"]


@MODES
def test_missing_normalisation_of_the_logits_fails(entrywise):
    """The term pi_k, which comes from log_softmax: without it, -n_k / N."""
    problem = random_problem(5, 5, 3, 2)

    def unnormalised(*arguments):
        value, gradients = nll(*arguments)
        weights = np.exp(arguments[1]) / np.exp(arguments[1]).sum()
        gradients[1] = gradients[1] - weights
        return value, gradients

    report = check(unnormalised, problem, entrywise)
    assert passed_blocks(report) == ["x", "means", "scale_tril"]


@MODES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", NAMES)
def test_gradient_that_is_not_finite_fails(block, value, entrywise):
    def spoil(gradient):
        gradient = gradient.copy()
        gradient[(0,) * gradient.ndim] = value
        return gradient

    report = check(with_wrong(block, spoil), random_problem(6, 3, 2, 2), entrywise)
    assert not report
    assert passed_blocks(report) == [n for n in NAMES if n != block]
    assert report.worst.name == block
    assert report.worst.worst is not None
    assert set(report.worst.worst) == {0}
    assert "WRONG" in str(report)


@MODES
def test_value_above_the_diagonal_fails_through_free(entrywise):
    problem = random_problem(7, 3, 2, 3)

    def spoil(gradient):
        gradient = gradient.copy()
        gradient[1, 0, 2] = 1e-300
        return gradient

    report = check(with_wrong("scale_tril", spoil), problem, entrywise)
    assert passed_blocks(report) == ["x", "pi_logits", "means"]
    assert report.worst.worst == (1, 0, 2)
    assert report.worst.error == math.inf


@MODES
def test_nan_above_the_diagonal_fails_through_free(entrywise):
    problem = random_problem(7, 3, 2, 3)

    def spoil(gradient):
        gradient = gradient.copy()
        gradient[1, 0, 2] = np.nan
        return gradient

    report = check(with_wrong("scale_tril", spoil), problem, entrywise)
    assert passed_blocks(report) == ["x", "pi_logits", "means"]
    assert report.worst.worst == (1, 0, 2)


def test_tolerance_decides():
    problem = random_problem(8, 3, 2, 2)
    wrong = with_wrong("means", lambda g: 1.001 * g)
    assert check(wrong, problem, True, tolerance=1e-2)
    report = check(wrong, problem, True, tolerance=5e-4)
    assert passed_blocks(report) == ["x", "pi_logits", "scale_tril"]
    # In a direction as for an entry, the error is that of the entries.
    assert report.worst.error == pytest.approx(1e-3 / 1.001, rel=1e-4, abs=0)
    assert report.worst.tolerance == 5e-4


# --- how the function is called -------------------------------------------------------------------


def test_function_is_called_by_position_with_float64_arrays():
    calls = []

    def function(*arguments, **keywords):
        assert not keywords
        calls.append(arguments)
        a, b = arguments
        return float(a.sum() * b), (np.full(2, b), a.sum())

    assert check_grad(function, {"a": [1, 2], "b": 3})
    for a, b in calls:
        assert (a.shape, b.shape) == ((2,), ())
        assert a.dtype == b.dtype == np.float64


@MODES
def test_scalar_argument_can_be_checked(entrywise):
    def function(a):
        return math.sin(a), (math.cos(a),)

    assert check_grad(function, {"a": 0.7}, entrywise=entrywise)
    report = check_grad(lambda a: (math.sin(a), (1.001 * math.cos(a),)), {"a": 0.7})
    assert not report
    assert report.worst.worst == ()
    assert "scalar" in str(report)


@MODES
def test_argument_whose_gradient_is_none_is_left_alone(entrywise):
    seen = set()

    def function(a, b):
        seen.add(tuple(b))
        return float(a @ b), (b.copy(), None)

    report = check_grad(function, {"a": [1.0, 2.0], "b": [3.0, 4.0]}, entrywise=entrywise)
    assert report
    assert [block.name for block in report.blocks] == ["a"]
    assert seen == {(3.0, 4.0)}


def test_gradients_beyond_the_arguments_are_left_alone():
    def function(a):
        return float(a @ a), (2 * a, "not a gradient", np.nan)

    assert check_grad(function, {"a": [1.0, 2.0]})


@MODES
def test_arguments_are_not_written_to(entrywise):
    arguments = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, -1.0])}
    for array in arguments.values():
        array.setflags(write=False)
    check_grad(lambda a, b: (float(a @ b), (b, a)), arguments, entrywise=entrywise)
    assert arguments["a"].tolist() == [1.0, 2.0]


@MODES
def test_entries_that_are_not_free_are_never_varied(entrywise):
    def function(a):
        assert a[0, 1] == 5.0
        assert a[1, 0] == 7.0
        return float(a[0, 0] * a[1, 1]), (np.array([[a[1, 1], 0.0], [0.0, a[0, 0]]]),)

    report = check_grad(
        function, {"a": [[1.0, 5.0], [7.0, 2.0]]}, free={"a": np.eye(2)}, entrywise=entrywise
    )
    assert report


def test_free_broadcasts_over_components():
    problem = random_problem(9, 3, 3, 2)
    one = check_grad(nll, problem._asdict(), free={"scale_tril": np.tri(2)}, entrywise=True)
    mask = np.broadcast_to(np.tri(2), (3, 2, 2))
    each = check_grad(nll, problem._asdict(), free={"scale_tril": mask}, entrywise=True)
    assert str(one) == str(each)


@MODES
def test_argument_that_is_fixed_altogether_passes_with_a_gradient_of_zero(entrywise):
    def function(a, b):
        assert b.tolist() == [1.0, 2.0]
        return float(a @ a), (2 * a, np.zeros(2))

    report = check_grad(
        function, {"a": [1.0], "b": [1.0, 2.0]}, free={"b": False}, entrywise=entrywise
    )
    assert report


def test_same_seed_gives_the_same_report_and_another_seed_other_directions():
    problem = random_problem(10, 4, 2, 2)
    first = check(nll, problem, False, seed=3)
    assert check(nll, problem, False, seed=3) == first
    other = check(nll, problem, False, seed=4)
    assert other
    assert [b.analytic for b in other.blocks] != [b.analytic for b in first.blocks]


def test_state_of_numpy_s_global_generator_is_left_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    check(nll, random_problem(10, 2, 2, 2), False)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


# --- restricted domains ---------------------------------------------------------------------------


def log_or_nan(a):
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.log(a - 1.0).sum()), (1 / (a - 1.0),)


def log_or_error(a):
    return math.fsum(math.log(v - 1.0) for v in a), (1 / (a - 1.0),)


@MODES
@pytest.mark.parametrize("function", [log_or_nan, log_or_error])
@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4, 1e-6])
def test_function_near_the_edge_of_its_domain_can_be_checked(function, distance, entrywise):
    a = {"a": np.array([1.0 + distance, 2.0])}
    report = check_grad(function, a, entrywise=entrywise)
    assert report, str(report)

    def wrong(a):
        value, (gradient,) = function(a)
        return value, (gradient * np.array([1.001, 1.0]),)

    report = check_grad(wrong, a, entrywise=entrywise)
    assert report.worst.worst == (0,), str(report)


@MODES
def test_factor_whose_diagonal_is_nearly_zero_can_be_checked(entrywise):
    # `nll_forward` refuses a diagonal that is not positive; a step in proportion never gets there.
    problem = random_problem(11, 3, 1, 2)
    problem.scale_tril[0, 1, 1] = 1e-3
    report = check(nll, problem, entrywise)
    assert report, str(report)


def test_other_errors_of_the_function_are_not_hidden():
    def function(a):
        if a[0] != 1.0:
            raise TypeError("a fault of the function")
        return 1.0, (np.ones(1),)

    with pytest.raises(TypeError, match="a fault of the function"):
        check_grad(function, {"a": [1.0]})


# --- what cannot be checked -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.ones(1), np.ones(3)])
def test_value_that_is_not_a_finite_scalar_is_an_error(value):
    with pytest.raises(ValueError, match="must return a finite scalar at the point to check; got"):
        check_grad(lambda a: (value, (a,)), {"a": [1.0]})


def test_too_few_gradients_are_an_error_that_names_the_arguments():
    with pytest.raises(ValueError, match=r"one gradient for each of \['a', 'b'\]; got 1\."):
        check_grad(lambda a, b: (float(a @ b), (b,)), {"a": [1.0], "b": [2.0]})


def test_gradient_of_the_wrong_shape_is_an_error_with_both_shapes():
    with pytest.raises(
        ValueError, match=r"gradient of a must have the shape of a, \(2,\); got \(2, 1\)"
    ):
        check_grad(lambda a: (float(a @ a), (2 * a[:, None],)), {"a": [1.0, 2.0]})


def test_free_of_an_unknown_argument_is_an_error():
    with pytest.raises(ValueError, match=r"free names 'c', which is not among \['a', 'b'\]"):
        check_grad(lambda a, b: (float(a @ b), (b, a)), {"a": [1.0], "b": [2.0]}, free={"c": True})


def test_nothing_but_none_is_an_error():
    with pytest.raises(ValueError, match="no gradient to check: all are None"):
        check_grad(lambda _: (1.0, (None,)), {"a": [1.0]})


@MODES
def test_point_from_which_no_step_is_possible_is_an_error_that_names_the_argument(entrywise):
    def function(a):
        return (1.0 if a[0] == 1.0 else math.nan), (np.ones(1),)

    with pytest.raises(ValueError, match=r"no step .* was small enough: along a .* another point"):
        check_grad(function, {"a": [1.0]}, entrywise=entrywise)


# --- the report -----------------------------------------------------------------------------------


def test_report_of_right_gradients_says_so():
    report = check(nll, random_problem(12, 3, 2, 2), False)
    lines = str(report).splitlines()
    assert lines[0].split() == [
        "argument", "shape", "checked", "analytic", "difference", "rel.", "error", "verdict"
    ]  # fmt: skip
    assert set(lines[1]) == {"-"}
    assert [line.split()[0] for line in lines[2:6]] == list(NAMES)
    assert [line.split()[1] for line in lines[2:6]] == ["3x2", "2", "2x2", "2x2x2"]
    assert all(line.endswith(" ok") for line in lines[2:6])
    assert lines[6].startswith("every gradient agrees: worst relative error ")
    assert lines[6].endswith(", allowed 1e-07")
    assert len(lines) == 7


@MODES
def test_report_of_a_wrong_gradient_names_the_argument_and_the_entry(entrywise):
    problem = random_problem(12, 3, 2, 2)
    report = check(with_wrong("means", plant(1.5, (1, 0))), problem, entrywise)
    lines = str(report).splitlines()
    assert [line.split()[0] for line in lines if line.endswith("WRONG at [1, 0]")] == ["means"]
    assert lines[-1].startswith("the gradient of means is wrong: worst relative error 3.3e-01")
    assert bool(report) is report.passed is False
    # The two numbers that were compared are of that entry: a third of the wrong one is too much.
    assert report.worst.numeric == pytest.approx(report.worst.analytic / 1.5, rel=1e-7, abs=0)


def test_report_with_several_wrong_gradients_names_the_worst():
    def wrong(*arguments):
        value, gradients = nll(*arguments)
        return value, [gradients[0], 1.01 * gradients[1], -gradients[2], gradients[3]]

    report = check(wrong, random_problem(12, 3, 2, 2), False)
    assert report.worst.name == "means"
    assert str(report).count("WRONG") == 2
    assert passed_blocks(report) == ["x", "scale_tril"]


def test_nan_is_the_worst_error():
    def row(name, error):
        return BlockCheck(name, (1,), 1, error, 1.0, 1.0, None, 1e-7)

    report = GradientReport((row("a", 1e9), row("b", math.nan), row("c", 0.0)))
    assert report.worst.name == "b"
    assert not report
    assert passed_blocks(report) == ["c"]
    assert not row("a", math.nan).passed
    assert row("a", 1e-7).passed


# --- offsets, columns of one value, repeated columns ----------------------------------------------


def moved(problem, offset):
    """The same mixture elsewhere, at numbers that a double can hold to all digits of x - means."""
    grid = np.spacing(abs(offset) + 10.0)
    x, means = (np.round(a / grid) * grid + offset for a in (problem.x, problem.means))
    return problem._replace(x=x, means=means)


def only(block, gradient):
    """The reference with one gradient, and none for the other arguments, which are left alone."""
    gradients = [gradient if name == block else None for name in NAMES]
    return lambda *arguments: (nll_forward(*arguments)[0], gradients)


@MODES
@pytest.mark.parametrize("offset", [1e2, 6203436.77, -1e10])
def test_an_offset_hides_neither_what_is_right_nor_a_thousandth(offset, entrywise):
    problem = moved(random_problem(0, 3, 2, 2), offset)
    report = check(nll_at(problem), problem, entrywise)
    assert report, str(report)
    for block in ("x", "means"):
        right = nll(*problem)[1][NAMES.index(block)]
        smallest = np.unravel_index(np.abs(right).argmin(), right.shape)
        assert abs(right[smallest]) >= SMALLEST * np.abs(right).max()
        for place in ((1, 0), tuple(map(int, smallest))):
            report = check(only(block, plant(1.001, place)(right)), problem, entrywise)
            assert not report, f"{block}{list(place)}\n{report}"
            assert report.worst.worst == place, f"{block}{list(place)}\n{report}"


def degenerate(kind, seed):
    """A start on a table with a column of one value, or one that repeats another, or depends on it.

    The factors have the small conditional deviations that a start gives such columns.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 3))
    factor = np.tril(rng.normal(size=(2, 3, 3)), -1) + np.diag([1.0, 0.8, 1.2])
    if kind == "constant":
        x[:, 1] = 1e6
        factor[:, 1] = [0.0, 3e-4, 0.0]
        factor[:, 2, 1] = 0.0
    else:
        by, shift = {"repeated": (1.0, 0.0), "dependent": (1e3, 1e6)}[kind]
        x[:, 2] = by * x[:, 0] + shift
        factor[:, 2] = [by, 0.0, 1e-3 * by]
        factor[:, 0] = [1.0, 0.0, 0.0]
    means = x[:2].copy()
    return type(random_problem(0, 1, 1, 1))(x, rng.normal(size=2), means, factor)


@MODES
@pytest.mark.parametrize("kind", ["constant", "repeated", "dependent"])
def test_columns_without_a_spread_of_their_own_are_checked(kind, entrywise):
    problem = degenerate(kind, 0)
    report = check(nll_at(problem), problem, entrywise)
    assert report, str(report)
    for block, right in zip(NAMES, nll(*problem)[1], strict=True):
        place = tuple(map(int, np.unravel_index(np.abs(right).argmax(), right.shape)))
        report = check(only(block, plant(1.001, place)(right)), problem, entrywise)
        assert report.worst.wrong, f"{block}{list(place)}\n{report}"


@MODES
def test_what_rounding_hides_is_neither_right_nor_wrong(entrywise):
    # Sixteen units in the last place of 1e15 are further than the value is smooth.
    def function(a):
        return float(np.sin(a - 1e15).sum()), (np.cos(a - 1e15),)

    for report in (
        check_grad(function, {"a": [1e15, 1e15 + 1]}, entrywise=entrywise),
        check_grad(lambda a: (function(a)[0], (0.5 * function(a)[1][0],)), {"a": [1e15]}),
    ):
        assert not report
        assert not report.worst.resolved
        assert "could not be told right from wrong" in str(report)


@MODES
def test_noise_of_the_value_beyond_its_last_place_is_seen(entrywise):
    # As of a function that sums squares about an origin far away: 1e-9 and not 1e-16.
    def noisy(a, wrong=1.0):
        noise = 1e-9 * math.sin(1e15 * float(a.sum()))
        return float(np.sin(a).sum()) + noise, (wrong * np.cos(a),)

    a = {"a": [0.3, 0.7, 1.1]}
    assert check_grad(noisy, a, entrywise=entrywise)
    report = check_grad(lambda a: noisy(a, 1.001), a, entrywise=entrywise)
    assert report.worst.wrong
