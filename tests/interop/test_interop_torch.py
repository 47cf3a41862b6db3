"""The loss as a PyTorch operation, and mixtures as PyTorch distributions."""

import numpy as np
import pytest
import torch
from by_torch import log_prob_of_formula, log_prob_of_rows
from families_by_reference import FAMILIES, expand, random_parameters
from rows_by_reference import FAMILIES as FAMILIES_OF_ROWS
from rows_by_reference import random_rows
from torch.autograd import gradcheck, gradgradcheck

import gmm_np
from gmm_np.interop.torch import from_torch, nll, to_torch

pytestmark = [
    pytest.mark.needs_extras,
    # Of PyTorch's own, in torch.func.jacfwd.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

WEIGHT = np.array([1.0, 2.0, 0.0, 0.5])


def tensor(array, requires_grad=True, dtype=torch.float64):
    return torch.tensor(np.array(array), dtype=dtype, requires_grad=requires_grad)


def problem_of(family, n=4):
    """x and the parameters of a mixture, as arrays."""
    p = random_parameters(2, family, 3, 2)
    x = np.random.default_rng(2).normal(size=(n, 2))
    return x, p.pi_logits, p.means, p.scale


def operation(family, reduction, weight=WEIGHT):
    """The loss as a function of tensors whose entries are all free."""

    def function(x, pi_logits, means, scale):
        factors = gmm_np.covariance.FAMILIES[family].has_factors
        lower = torch.tril(scale) if factors else scale
        return nll(x, pi_logits, means, lower, family, weight, reduction)

    return function


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("reduction", "x_moves"), [("mean", True), ("sum", False), ("none", True)])
def test_gradcheck_and_gradgradcheck_pass(family, reduction, x_moves):
    x, logits, means, scale = problem_of(family)
    learned = family != "constant"
    arguments = (tensor(x, x_moves), tensor(logits), tensor(means), tensor(scale, learned))
    assert gradcheck(operation(family, reduction), arguments)
    assert gradgradcheck(operation(family, reduction), arguments)


@pytest.mark.parametrize(
    ("family", "reduction"), list(zip(FAMILIES_OF_ROWS, ("mean", "sum", "none"), strict=True))
)
def test_gradcheck_and_gradgradcheck_pass_with_a_mixture_for_each_row(family, reduction):
    arguments = tuple(tensor(a) for a in random_rows(2, family, 4, 2, 2))
    assert gradcheck(operation(family, reduction), arguments)
    assert gradgradcheck(operation(family, reduction), arguments)


def gradients(loss, arguments):
    loss.backward()
    return [a.grad for a in arguments]


def losses_of(family):
    """Value of each row by the operation and by PyTorch, as functions of all arguments."""
    if family.startswith("rows of "):
        own = family.removeprefix("rows of ")
        return operation(own, "none"), lambda *a: -weights() * log_prob_of_rows(*a, own)

    def formula(x, logits, means, scale):
        # Each entry of a factor is a scale's entry, 0 or 1 times: linear.
        k, d = means.shape
        identity = np.eye(scale.numel()).reshape(-1, *scale.shape)
        linear = tensor(np.stack([expand(row, family, k, d) for row in identity]), False)
        factors = torch.tensordot(scale.reshape(-1), linear, 1)
        return -weights() * log_prob_of_formula(x, logits, means, factors)

    return operation(family, "none"), formula


def weights():
    return tensor(WEIGHT, False)


def problem_or_rows(family):
    if family.startswith("rows of "):
        return random_rows(3, family.removeprefix("rows of "), 4, 3, 2)
    return problem_of(family)


EVERY = [*FAMILIES, *(f"rows of {family}" for family in FAMILIES_OF_ROWS)]


@pytest.mark.parametrize("x_moves", [False, True])
@pytest.mark.parametrize("family", EVERY)
def test_first_and_second_derivatives_are_pytorchs(family, x_moves):
    arrays = problem_or_rows(family)
    rng = np.random.default_rng(3)
    moves = [tensor(rng.normal(size=np.shape(a)), False) for a in arrays]
    d_value = rng.normal(size=4)  # of either sign
    found = []
    for loss in losses_of(family):
        arguments = [tensor(a) for a in arrays]
        arguments[0].requires_grad_(x_moves)
        arguments[3].requires_grad_(family != "constant")
        free = [i for i, a in enumerate(arguments) if a.requires_grad]
        d_out, wanted = tensor(d_value), [arguments[i] for i in free]
        value = loss(*arguments)
        first = torch.autograd.grad(value, wanted, d_out, create_graph=True)
        slope = sum((g * moves[i]).sum() for g, i in zip(first, free, strict=True))
        found.append([value, *first, *torch.autograd.grad(slope, [d_out, *wanted])])
    for mine, theirs in zip(*found, strict=True):
        size = max(theirs.abs().max().item(), 0.01)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11 * size)


def test_single_precision_goes_in_and_out():
    arrays = problem_of("full")
    arguments = [tensor(a, dtype=torch.float32) for a in arrays]
    value = nll(*arguments)
    assert value.dtype == torch.float32
    assert all(g.dtype == torch.float32 for g in gradients(value, arguments))
    rounded = [a.detach().numpy().astype(np.float64) for a in arguments]
    assert value.item() == pytest.approx(gmm_np.nll(*rounded), rel=1e-7)
    assert nll(arguments[0], *(tensor(a) for a in arrays[1:])).dtype == torch.float64


def test_lists_and_arrays_are_taken_in_double_precision():
    x, logits, means, scale = problem_of("diag")
    value = nll(x.tolist(), tensor(logits), means, scale, family="diag")
    assert value.dtype == torch.float64
    assert value.item() == gmm_np.nll(x, logits, means, scale, family="diag")


def test_network_in_front_gets_its_gradients():
    torch.manual_seed(0)
    x, inputs = torch.randn(50, 2), torch.randn(50, 3)
    layers = [torch.nn.Linear(3, 6), torch.nn.Linear(3, 12), torch.nn.Linear(3, 6)]
    losses = []
    for loss in (
        lambda *a: nll(*a, "diag"),
        lambda *a: -log_prob_of_rows(*a, "diag").mean(),
    ):
        logits, means, raw = (layer(inputs) for layer in layers)
        raw = torch.nn.functional.softplus(raw).reshape(50, 6, 1).expand(50, 6, 2)
        losses.append(loss(x, logits, means.reshape(50, 6, 2), raw))
    weights = [layer.weight for layer in layers]
    mine, theirs = (torch.autograd.grad(value, weights) for value in losses)
    for got, wanted in zip(mine, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_functional_gradients_are_those_of_backward():
    arguments = [tensor(a, False) for a in problem_of("diag")]
    found = torch.func.grad(lambda *a: nll(*a, "diag"), argnums=(0, 1, 2, 3))(*arguments)
    leaves = [a.clone().requires_grad_() for a in arguments]
    for mine, theirs in zip(found, gradients(nll(*leaves, "diag"), leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


MODES = {
    "forward over reverse": torch.func.hessian,
    "reverse over forward": lambda f, a: torch.func.jacrev(torch.func.jacfwd(f, a), a),
    "forward over forward": lambda f, a: torch.func.jacfwd(torch.func.jacfwd(f, a), a),
    "reverse over reverse": lambda f, a: torch.func.jacrev(torch.func.jacrev(f, a), a),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("family", ["full", "spherical", "rows of diag"])
def test_hessian_by_each_mode_over_the_other_is_pytorchs(family, mode):
    arguments = [tensor(a, False) for a in problem_or_rows(family)]
    every = (0, 1, 2, 3)
    mine = operation(family.removeprefix("rows of "), "sum")

    def theirs(*a):
        return losses_of(family)[1](*a).sum()

    for found, wanted in zip(mode(mine, every)(*arguments), torch.func.hessian(theirs, every)(
        *arguments), strict=True):  # fmt: skip
        for got, expected in zip(found, wanted, strict=True):
            size = max(expected.abs().max().item(), 0.01)
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-11 * size)


def test_what_stands_still_at_first_may_move_at_second():
    arguments = [tensor(a, False) for a in problem_of("diag")]
    found, expected = (
        torch.func.jacrev(torch.func.grad(lambda *a, f=f: f(*a).sum(), argnums=2), argnums=0)(
            *arguments
        )
        for f in losses_of("diag")
    )
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", ["full", "rows of full"])
def test_forward_mode_of_each_rows_value_is_pytorchs(family):
    arrays = problem_or_rows(family)
    rng = np.random.default_rng(8)
    moves = tuple(tensor(rng.normal(size=np.shape(a)), False) for a in arrays)
    arguments = tuple(tensor(a, False) for a in arrays)
    for found, expected in zip(
        *(torch.func.jvp(f, arguments, moves) for f in losses_of(family)), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_vmap_over_mixtures_data_and_weights_is_one_call_for_each():
    x, *rest = (tensor(a, False) for a in problem_of("diag"))
    many = [torch.stack([a, a + 0.25]) for a in rest]
    weight = torch.stack([weights(), weights() + 1])

    def loss(row_weight, *mixture):
        return nll(x, *mixture, "diag", row_weight)

    step = torch.func.grad_and_value(loss, argnums=(1, 2, 3))
    gradients_of, values = torch.func.vmap(step)(weight, *many)
    hessians = torch.func.vmap(torch.func.hessian(loss, argnums=2))(weight, *many)
    for i in range(2):
        own = [weight[i], *(a[i] for a in many)]
        expected, value = step(*own)
        assert values[i] == value
        for got, wanted in zip(gradients_of, expected, strict=True):
            torch.testing.assert_close(got[i], wanted, rtol=0, atol=0)
        torch.testing.assert_close(hessians[i], torch.func.hessian(loss, argnums=2)(*own))


def test_gradient_of_each_row_by_vmap_adds_to_the_whole():
    x, *rest = (tensor(a, False) for a in problem_of("full"))

    def loss(row, *mixture):
        return nll(row[None], *mixture, reduction="sum")

    each = torch.func.vmap(torch.func.grad(loss, argnums=2), (0, None, None, None))(x, *rest)
    whole = torch.func.grad(lambda m: nll(x, rest[0], m, rest[2], reduction="sum"))(rest[1])
    torch.testing.assert_close(each.sum(0), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.slow  # Dynamo, which looks at gradients of what is no leaf
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_program_around_it_is_the_same(monkeypatch):
    arguments = [tensor(a) for a in problem_of("full")]

    def program(x, logits, means, scale):
        return 2 * nll(x, logits, torch.tanh(means), torch.tril(scale), "full", WEIGHT).exp()

    monkeypatch.setattr(gmm_np.interop.torch, "_nll", None)  # as at the first call
    results = []
    for f in (torch.compile(program, backend="aot_eager"), program):
        leaves = [a.detach().clone().requires_grad_() for a in arguments]
        value = f(*leaves)
        results.append([value.detach(), *gradients(value, leaves)])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=1e-14)


def test_second_forward_derivative_of_rows_is_refused_and_not_wrong():
    x, logits, means, scale = (tensor(a, False) for a in problem_of("diag"))
    twice = torch.func.jacfwd(torch.func.jacfwd(lambda m: nll(
        x, logits, m, scale, "diag", reduction="none")))  # fmt: skip
    with pytest.raises(NotImplementedError, match="first derivative in reverse mode"):
        twice(means)


def test_third_derivative_is_refused_and_not_wrong():
    arguments = [tensor(a) for a in problem_of("diag")]
    first = torch.autograd.grad(nll(*arguments, "diag"), arguments, create_graph=True)
    second = torch.autograd.grad(first[1].square().sum(), arguments[1], create_graph=True)
    with pytest.raises(NotImplementedError, match="twice, and no more"):
        second[0].sum().backward()


def test_checks_speak_of_the_arguments():
    x, logits, means, scale = problem_of("diag")
    with pytest.raises(ValueError, match=r"scale has standard deviations that are not positive"):
        nll(x, logits, means, -scale, family="diag")
    with pytest.raises(ValueError, match=r"family must be one of"):
        nll(x, logits, means, scale, family="round")
    with pytest.raises(ValueError, match=r"reduction must be one of"):
        nll(x, logits, means, scale, family="diag", reduction="max")
    with pytest.raises(TypeError, match="real numbers"):
        nll(torch.zeros(4, 2, dtype=torch.complex64), logits, means, scale, family="diag")


# --- fitted models -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_distribution_has_the_density_of_the_mixture(family):
    parameters = random_parameters(5, family, 4, 3)
    x = np.random.default_rng(5).normal(size=(20, 3))
    distribution = to_torch(parameters)
    found = distribution.log_prob(tensor(x, False)).numpy()
    expected = gmm_np.log_prob(x, *problem_arrays(parameters), family=family)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    back = from_torch(distribution)
    np.testing.assert_allclose(back.weights(), parameters.weights(), rtol=1e-14)
    np.testing.assert_array_equal(back.means, parameters.means)
    np.testing.assert_allclose(back.covariances(), parameters.covariances(), rtol=1e-13, atol=1e-14)
    assert back.family == ("full" if gmm_np.covariance.FAMILIES[family].has_factors else "diag")


def problem_arrays(parameters):
    return parameters.pi_logits, parameters.means, parameters.scale


def test_fitted_estimator_becomes_a_distribution():
    x = np.random.default_rng(6).normal(size=(60, 2))
    fitted = gmm_np.GaussianMixture(2, covariance_type="tied", random_state=0).fit(x)
    found = to_torch(fitted).log_prob(tensor(x, False)).mean().item()
    assert found == pytest.approx(fitted.score(x), rel=1e-12)


def test_one_dimensional_and_low_rank_mixtures_come_back():
    td = torch.distributions
    weights = td.Categorical(logits=torch.tensor([0.0, -torch.inf, 1.0], dtype=torch.float64))
    normal = td.Normal(tensor([0.0, 1.0, 2.0]), tensor([1.0, 2.0, 3.0]))
    found = from_torch(td.MixtureSameFamily(weights, normal))
    assert (found.family, found.means.tolist()) == ("spherical", [[0.0], [1.0], [2.0]])
    assert found.weights()[1] == 0.0
    low = td.LowRankMultivariateNormal(
        tensor(np.zeros((3, 2))), tensor(np.ones((3, 2, 1))), tensor(np.ones((3, 2)))
    )
    covariances = from_torch(td.MixtureSameFamily(weights, low)).covariances()
    np.testing.assert_allclose(covariances, [[[2.0, 1.0], [1.0, 2.0]]] * 3, rtol=1e-14)


def test_what_is_no_mixture_of_normals_is_refused():
    td = torch.distributions
    with pytest.raises(TypeError, match="MixtureSameFamily"):
        from_torch(td.Normal(0.0, 1.0))
    weights = td.Categorical(logits=torch.zeros(2))
    with pytest.raises(TypeError, match="components that are MultivariateNormal"):
        from_torch(td.MixtureSameFamily(weights, td.Laplace(torch.zeros(2), torch.ones(2))))
    batch = td.Normal(torch.zeros(5, 2), torch.ones(5, 2))
    with pytest.raises(ValueError, match="batch of mixtures"):
        from_torch(td.MixtureSameFamily(td.Categorical(logits=torch.zeros(5, 2)), batch))
    with pytest.raises(TypeError, match=r"gmm_np.Parameters or a fitted gmm_np.GaussianMixture"):
        to_torch(gmm_np.GaussianMixture(2))
