# ruff: noqa: ARG001  (adapters have the arguments that they have)
"""The mutants: each is killed by the vectors, the lists of kills are true, answers are named."""

import itertools

import numpy as np
import pytest

from gmm_np.conformance import Family, read_vectors
from gmm_np.conformance.adapters import gmm_np as own
from gmm_np.conformance.cases import VALUE
from gmm_np.conformance.compare import Answered, judge
from gmm_np.conformance.diagnosis import Wrong, diagnose
from gmm_np.conformance.function_adapter import FunctionAdapter
from gmm_np.conformance.mutants import MUTANTS, describe, kind_of, mutants_of
from gmm_np.conformance.mutants.by_covariance import PlainByCovariance
from gmm_np.conformance.mutants.covariances import PlainDiag, PlainSpherical, PlainTied
from gmm_np.conformance.mutants.outputs import PlainOutputs
from gmm_np.conformance.mutants.precision import PlainPrecision
from gmm_np.conformance.mutants.rowwise import PlainRowwise
from gmm_np.conformance.mutants.second import PlainSecond
from gmm_np.conformance.plain import Plain
from gmm_np.conformance.plain import mutant as make_mutant
from gmm_np.conformance.runner import run_cases

FAMILIES = read_vectors()
CASES = {case.id: case for family in FAMILIES for case in family.cases}
NAMES = [(kind, name) for kind in MUTANTS for name in MUTANTS[kind]]
PLAIN = {
    "cholesky": Plain(),
    "precision": PlainPrecision(),
    "hvp": PlainSecond(),
    "scores": PlainSecond(),
    "diag": PlainDiag(),
    "tied": PlainTied(),
    "spherical": PlainSpherical(),
    "rowwise": PlainRowwise(),
    "by_covariance": PlainByCovariance(),
    **dict.fromkeys(("log_prob", "responsibilities", "d_x", "em_step", "marginal"), PlainOutputs()),
}
KILLED_BY = {name: [case for case in CASES.values() if name in case.kills] for _, name in NAMES}


# A mutant is listed where it misses by ten times the allowance on the machine that made the lists.
# Processors round differently: on each it misses by more than once, and one that is not listed by
# no more than this, unless it is wrong by rounding alone, which chance may make large.
MOST_UNLISTED = 100.0


def work(case):
    return case.n_samples * case.n_components * case.n_features**2


def answer_of(function, case):
    return judge(case, FunctionAdapter(function).evaluate(case))


def assert_answers(name, case, outcome):
    """Assert that a mutant that breaks down does so where refusing is its mistake: see below."""
    if case.result == "valid" and name not in REFUSING:
        assert isinstance(outcome, Answered), (case.id, name, outcome)


# A family that kills no mutant alone is there for another reason. Those of the lower level are the
# simplest form of something, so that a failure is easy to read: all that a fault needs to show, and
# nothing else. They are what a failing implementation is debugged on.
JUSTIFIED = {
    "single_number": "lower: N = K = D = 1, where the answer can be had on paper",
    "one_component": "lower: no mixture; the gradient of the logits is exactly zero",
    "one_dimension": "lower: no factor to transpose or to pack",
    "one_correlated": "lower: one factor off the diagonal and nothing to sum over components",
    "one_sample": "lower: nothing to sum over samples; arrays of one row lose an axis",
    "dense": "lower: everything at once, the case of tutorials",
    "diagonal": "lower: what an implementation of diagonal covariances alone can be tried on",
    "both_sides_of_one": "lower: the logarithm changes its sign among the diagonal's entries",
    "factor_not_covariance": "lower: L and L L^T are far apart",
    "covariance_not_precision": "lower: a covariance and its inverse are far apart",
    "transposed": "lower: L L^T and L^T L are far apart",
    "packing": "lower: each entry of the triangle has a gradient of its own size",
    "last_row": "lower: the last row and the last component carry most of the gradient",
    "mean_and_sum": "lower: the same data by both reductions",
    "shifted_logits": "logits that are not normalised, by constants up to large ones",
    "binary32": "the only cases whose inputs are of another type: mutants compute in double",
    "published_faults": "the inputs at which published faults were seen, with their sources",
    "far_samples": "50 to 1e4 sigma: exp underflows for every component at once",
    "large_logits": "weights that underflow beside each other",
    "duplicates": "components that are alike: each has its share, and gradients that are equal",
    "ties": "ties between components that differ; duplicates are alike in everything",
    "saturated": "one responsibility is 1 to rounding, and the others still have digits",
    "small_shares": "responsibilities from 1e-10 down to 1e-290, each with its digits",
    "condition_numbers": "digits are lost by degrees, from 1e4 to 1e15",
    "offset": "digits are lost by degrees, from offsets of 1e4 to 1e8",
    "collapsed": "variances that a floor would hide",
    "extreme_scales": "squares under- and overflow: the plain form itself fails",
    "beyond_range": "the answer is an infinity, and never NaN",
    "stationary": "every digit cancels: an answer is right by its absolute error alone",
    "many_dimensions": "sums over D = 32 and D = 128; determinants still within the range",
    "component_off": "a component that is off and nothing else that is special",
    "many_components": "sums over K = 64, beside few samples",
    "weights": "weights and nothing else that is special, by both reductions",
    "hvp_dense": "lower: everything moves at once",
    "hvp_one_argument": "lower: one argument moves, so that a block of the Hessian stands alone",
    "hvp_one_entry": "lower: a column of the Hessian, entry by entry",
    "hvp_range": "responsibilities near zero and one, and squares near the ends of the range",
    "hvp_conditioning": "optima, where observed and expected information agree, and their vicinity",
    "scores_dense": "lower: the score of each sample by itself",
    "scores_range": "scores where densities underflow",
    "hvp_rejected": "directions that have to be refused, whatever is wrong in the product",
    "rowwise_full": "factors for each row",
    "rowwise_diag": "deviations of each row and column, as mixture density networks have them",
    "rowwise_spherical": "a deviation of each row and component",
    "covariances": "symmetric matrices, whose gradients have two entries for each pair",
    "precisions": "the same, where the gradient has the other sign",
    "diag_variances": "variances, as estimators give them",
    "spherical_variances": "one variance for all axes, whose gradients add up",
    "recent_faults": "the inputs that show what was reported lately, and some that hide it",
}


def test_plain_form_agrees_with_the_reference():
    # Two derivations: a mutant differs from what is right by its one step.
    rng = np.random.default_rng(0)
    x, logits, means = rng.normal(size=(300, 3)), rng.normal(size=4), rng.normal(size=(4, 3))
    chol = np.tril(rng.normal(size=(4, 3, 3)), -1) + 0.7 * np.eye(3)
    for ours, theirs in zip(
        Plain()(x, logits, means, chol), own.reference(x, logits, means, chol), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    icf = rng.normal(size=(4, 6))
    arguments = (x, logits, means, icf, 1.3, 2)
    for ours, theirs in zip(PlainPrecision()(*arguments), own.precision(*arguments), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


def test_names_are_unique_and_say_what_is_wrong():
    assert len({name for _, name in NAMES}) == len(NAMES) >= 60
    sentences = {describe(name) for _, name in NAMES}
    assert len(sentences) == len(NAMES)
    for _, name in NAMES:
        assert describe(name).endswith(".")


def test_a_mutant_replaces_steps_that_there_are():
    # A step under a wrong name would leave an implementation that is right.
    with pytest.raises(AttributeError, match="half_logdet"):
        make_mutant("name", "What is wrong.", half_logdet=np.zeros_like)


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_mutant_is_killed(kind, name):
    killers = sorted(KILLED_BY[name], key=work)
    assert killers, "no vector kills it"
    for case in killers[:3]:
        comparison = answer_of(MUTANTS[kind][name], case)
        assert comparison.status == "wrong", case.id
        assert name in mutants_of(case), case.id


REFUSING = {"singular_rejected", "off_component_refused"}


def telling(name, cases, most):
    """Cases that a mutant fails and others, some of each: every wrong answer is compared with all
    mutants."""
    fails, passes = ([c for c in cases if (name in c.kills) is wrong] for wrong in (True, False))
    some = [c for part in (fails, passes) for c in part[:: -(-len(part) // most) or 1]]
    return Family("some", "", {}, tuple(some))


def test_mutant_answers_every_valid_case_unless_refusing_is_its_mistake():
    # One that breaks down kills whatever is valid, and shows nothing. All cases: with the lists.
    for case in [case for case in CASES.values() if work(case) <= 50]:
        for name, mutant in mutants_of(case).items():
            assert_answers(name, case, FunctionAdapter(mutant).evaluate(case))


def test_those_whose_mistake_is_to_refuse_say_so():
    refusing = {name for kind, name in NAMES if MUTANTS[kind][name].refuses}
    assert refusing == REFUSING


def test_adapter_that_refuses_everything_looks_like_no_mutant():
    def refuse(x, logits, means, chol):
        raise ValueError("no.")

    cases = [c for c in CASES.values() if work(c) <= 600 and c.function == VALUE][::8]
    report = run_cases(FunctionAdapter(refuse), [Family("some", "", {}, tuple(cases))])
    assert report.counts["wrong"] > 12
    assert report.suspects == ()


@pytest.mark.parametrize("name", sorted(REFUSING))
def test_adapter_that_refuses_what_a_mutant_refuses_is_named(name):
    def refuse(x, logits, means, chol):
        return MUTANTS["cholesky"][name](x, logits, means, chol)

    cases = [c for c in CASES.values() if work(c) <= 600 and c.function == VALUE]
    report = run_cases(FunctionAdapter(refuse), [telling(name, cases, 10)])
    assert report.suspects[0].name == name


def test_kills_are_those_of_known_mutants():
    known = {name for _, name in NAMES}
    assert {name for case in CASES.values() for name in case.kills} == known


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_lists_of_kills_are_what_the_mutants_do(family):
    for case in family.cases:
        if work(case) > 30_000:  # D = 128 takes half a minute
            continue
        for name, mutant in mutants_of(case).items():
            outcome = FunctionAdapter(mutant).evaluate(case)
            assert_answers(name, case, outcome)
            judged = judge(case, outcome)
            # How many times the allowance it misses by.
            share = judged.share if judged.status == "wrong" else 0.0
            if name in case.kills:
                assert share > 1, (case.id, name)
            # Where "plain", which the others vary, fails itself, it is the only one that is listed.
            elif case.kills != ("plain",) and not getattr(mutant, "by_rounding", False):
                assert share <= MOST_UNLISTED, (case.id, name)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_family_is_needed(family):
    """Without it some mutant would survive, or it is justified above."""
    alone = [
        name
        for name, killers in KILLED_BY.items()
        if {case.family for case in killers} == {family.name}
    ]
    assert alone or family.name in JUSTIFIED


def test_justifications_are_of_families_that_exist():
    assert set(JUSTIFIED) <= {family.name for family in FAMILIES}


def test_what_kills_a_mutant_passes_what_it_is_a_variant_of():
    # That a variant of something wrong is wrong says nothing about the variation.
    for kind, name in NAMES:
        if name != "plain":
            cases = sorted(KILLED_BY[name], key=work)
            passes = (answer_of(PLAIN[kind], case).status == "pass" for case in cases)
            assert any(passes), name


def test_plain_forms_of_what_is_optional_pass_every_case():
    for case in CASES.values():
        if case.optional:
            judged = answer_of(PLAIN[kind_of(case)], case)
            assert judged.status == "pass", (case.id, judged.message)


# Faults that were published, and the mutants that make them at the inputs of these flags.
PUBLISHED = {
    "SoftmaxChain": ("softmax_chain_diagonal", "minus_two_missing"),
    "SquareRootMixture": ("square_root_mixture",),
    "ZeroWeight": ("off_component_nan", "off_meets_weights_nan"),
    "LinearBackward": ("linear_backward_binary32",),
    "MeanOfLogs": ("mean_of_logs",),
    "BatchedDiagonal": ("diagonal_of_batch",),
    "TruncatedConstant": ("truncated_constant",),
    "FlooredDeterminant": ("floored_determinant",),
    "FlooredWeight": ("floored_weight",),
    "Rowwise": ("rowwise_mean_of_logs",),
    "GradientInX": ("d_x_unweighted_components",),
    "EMStep": ("em_about_origin_binary32", "em_about_old_means"),
    "Curvature": ("expected_information",),
    "LargeLogits": ("softmax_without_max",),
    "Remainder": ("tail_rows", "tail_components", "tail_features", "off_meets_weights_nan"),
}


@pytest.mark.parametrize("flag", PUBLISHED)
def test_published_fault_is_shown_by_its_mutant(flag):
    for name in PUBLISHED[flag]:
        shown = [c for c in KILLED_BY[name] if flag in c.flags and c.result == "valid"]
        assert shown, name
        mutant = next(mutants[name] for mutants in MUTANTS.values() if name in mutants)
        assert answer_of(mutant, min(shown, key=work)).status == "wrong", name


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("recent_faults-002", "softmax_chain_diagonal"),
        ("recent_faults-003", "square_root_mixture"),
        ("recent_faults-005", "off_meets_weights_nan"),
    ],
)
def test_published_fault_is_hidden_where_it_was(identity, name):
    # At two components, at components that are alike, and without weights.
    assert answer_of(MUTANTS["cholesky"][name], CASES[identity]).status == "pass"


def test_remainders_have_every_pair_of_what_is_special():
    cases = [case for case in CASES.values() if case.family == "remainders"]
    rows = [
        (
            case.n_samples,
            case.n_components,
            case.n_features,
            "Weights" in case.flags,
            "ComponentOff" in case.flags,
            "Far" in case.flags,
            "Saturated" in case.flags,
            case.reduction,
        )
        for case in cases
    ]
    values = [sorted(set(column)) for column in zip(*rows, strict=True)]
    assert values[:3] == [[3, 9, 18, 23], [2, 9, 18], [2, 9, 18]]
    for i, j in itertools.combinations(range(len(values)), 2):
        assert {(row[i], row[j]) for row in rows} == set(itertools.product(values[i], values[j]))


def test_diagonal_of_the_softmax_is_right_with_two_components_and_wrong_from_three():
    killers = KILLED_BY["softmax_jacobian_diagonal"]
    assert min(case.n_components for case in killers) == 3
    for case in CASES.values():
        if case.function == "hvp" and case.n_components == 2 and case.result == "valid":
            assert answer_of(MUTANTS["hvp"]["softmax_jacobian_diagonal"], case).status == "pass"


def test_expected_information_is_right_at_the_optimum_of_one_gaussian_alone():
    best, skewed, beside = (
        case for case in CASES.values() if case.function == "hvp" and "Stationary" in case.flags
    )
    mutant = MUTANTS["hvp"]["expected_information"]
    statuses = [answer_of(mutant, case).status for case in (best, skewed, beside)]
    assert statuses == ["pass", "pass", "wrong"]


# --- names for wrong answers --------------------------------------------------------------------

SMALL = [case for case in CASES.values() if work(case) <= 600 and case.level != "higher"]

# Those whose faults are in the digits, or need a case that is not small, are named where they are
# killed, with whatever else gives the same answers.
TOLD = (
    "no_log_2pi",
    "abs_log_sigma",
    "cholesky_inverse_of_sigma",
    "sigma_for_factor",
    "transposed_factor",
    "precision_for_covariance",
    "log_det_outside_sum",
    "mean_for_sum",
    "no_tril",
    "logits_not_normalised",
    "sum_over_k_dropped",
    "last_row_dropped",
    "third_component",
    "packed_by_columns",
    "weights_ignored",
    "chol_gradient_sign",
    "misplaced_parenthesis",
    "tie_to_first",
)


@pytest.mark.parametrize("name", TOLD)
def test_wrong_answers_are_named(name):
    def answer(x, logits, means, chol, *, sample_weight=None, reduction="mean"):
        return MUTANTS["cholesky"][name](
            x, logits, means, chol, sample_weight=sample_weight, reduction=reduction
        )

    cases = [case for case in SMALL if case.parametrization == "cholesky"]
    report = run_cases(FunctionAdapter(answer), [telling(name, cases, 5)])
    assert report.suspects[0].name == name
    assert report.suspects[0].explained >= 0.7 * report.suspects[0].examined
    assert f"looks like the mutant {name}: {describe(name)}" in str(report)


def test_wrong_wishart_sign_is_named():
    def answer(x, alpha, means, icf, gamma, m):
        return MUTANTS["precision"]["wishart_sign"](x, alpha, means, icf, gamma, m)

    cases = [case for case in CASES.values() if case.parametrization == "precision"]
    cases = sorted(cases, key=work)[:4]
    report = run_cases(FunctionAdapter(answer), [Family("some", "", {}, tuple(cases))])
    assert [suspect.name for suspect in report.suspects] == ["wishart_sign"]


# Those that are wrong by rounding alone look like others that are.
OPTIONAL = [
    (kind, name)
    for kind in MUTANTS
    if kind not in ("cholesky", "precision")
    for name, mutant in MUTANTS[kind].items()
    if not mutant.by_rounding
]


@pytest.mark.parametrize(("kind", "name"), OPTIONAL)
def test_wrong_answers_of_what_is_optional_are_named(kind, name):
    killers = sorted((c for c in KILLED_BY[name] if c.result == "valid"), key=work)[:3]
    report = run_cases(
        FunctionAdapter(MUTANTS[kind][name]), [Family("some", "", {}, tuple(killers))]
    )
    assert name in {suspect.name for suspect in report.suspects}
    assert f"looks like the mutant {name}: {describe(name)}" in str(report)


def test_answer_that_looks_like_no_mutant_is_not_named():
    case = KILLED_BY["no_log_2pi"][0]
    for value in (np.nan, 123.0):
        blocks = tuple(np.full(shape, value) for shape in case.shapes)
        assert diagnose([Wrong(case, Answered(blocks))], []) == ((), {})


def test_mutant_that_fails_what_passes_is_not_named():
    wrong = KILLED_BY["no_log_2pi"][0]
    outcome = FunctionAdapter(MUTANTS["cholesky"]["no_log_2pi"]).evaluate(wrong)
    assert diagnose([Wrong(wrong, outcome)], [])[0][0].name == "no_log_2pi"
    others = KILLED_BY["no_log_2pi"][1:3]
    assert "no_log_2pi" not in {s.name for s in diagnose([Wrong(wrong, outcome)], others)[0]}
