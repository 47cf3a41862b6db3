"""The whole loss with a wrong form of one of its steps in its place, which is a wrong whole.

So the whole knows all mistakes of its primitives, and those of the steps between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from gmm_np import reference
from gmm_np.checks import FloatArray
from gmm_np.lesson.exercise_set import PARTS, Outputs, Part
from gmm_np.lesson.wrong_forms import TERMS, WrongForm, wrong_forms

__all__ = ["STEPS", "whole", "wrong_answers"]

# Output names and function of each; those between the primitives first, which are more specific.
STEPS: Final[dict[str, tuple[tuple[str, ...], Callable[..., Outputs]]]] = {
    "log_joint": (("log_joint",), lambda *a: (sum(TERMS["log_joint.log_joint"][1](*a)),)),
    "loss": (("value",), lambda likelihood: (-likelihood.mean(),)),
    "responsibilities": (("resp",), lambda resp, _: (resp,)),
    "logits_weight": (("d_log_pi",), lambda d_joint: (d_joint.sum(axis=0),)),
    "quadratic_weight": (("d_quadratic",), lambda d_joint: (-d_joint / 2,)),
    "half_log_det_weight": (("d_half_log_det",), lambda d_joint: (-d_joint.sum(axis=0),)),
    "sum_of_two": (("d_factor",), lambda form, log_det: (form + log_det,)),
    "sum_over_components": (("d_x",), lambda parts: (parts.sum(axis=0),)),
    **{
        name: (tuple(part.output_names), part.solution)
        for name, part in PARTS.items()
        if hasattr(reference, name)
    },
}
# What the value is made of: blamed for the value alone, which is right where a gradient is wrong.
OF_VALUE: Final = {"log_joint", "value", "log_pi", "quadratic", "half_log_det"}


def whole(
    bent: tuple[str, int, Callable[..., Any]],
    x: FloatArray,
    logits: FloatArray,
    means: FloatArray,
    factors: FloatArray,
) -> Outputs:
    """Return the outputs of ``nll`` if a step has a wrong form for its output at a place."""
    step, place, wrong = bent

    def do(name: str, *arguments: Any) -> Outputs:
        outputs = list(STEPS[name][1](*arguments))
        if name == step:
            shape = np.shape(outputs[place])
            outputs[place] = np.asarray(wrong(*arguments), dtype=np.float64)
            if outputs[place].shape != shape and step != "loss":
                raise ValueError("nothing follows from an output of another shape")
        return tuple(outputs)

    log_pi, pi = do("log_softmax_forward", logits)  # [K], [K]
    forms = [do("quadratic_form_forward", x, m, L) for m, L in zip(means, factors, strict=True)]
    dets = [do("half_log_det_forward", L) for L in factors]
    quadratic, half_log_det = np.stack([q for q, _ in forms], 1), np.array([h for h, _ in dets])
    (log_joint,) = do("log_joint", log_pi, quadratic, half_log_det)  # [N, K]
    likelihood, resp = do("logsumexp_forward", log_joint)  # [N], [N, K]
    (value,) = do("loss", likelihood)
    (resp,) = do("responsibilities", resp, pi)
    (d_joint,) = do("logsumexp_backward", np.full(len(x), -1 / len(x)), resp)  # [N, K]
    (d_logits,) = do("log_softmax_backward", *do("logits_weight", d_joint), pi)
    (d_quadratic,), (d_half,) = do("quadratic_weight", d_joint), do("half_log_det_weight", d_joint)
    d_x, d_means, d_factors = list[Any](), list[Any](), list[Any]()
    for k, (m, L) in enumerate(zip(means, factors, strict=True)):
        back = do("quadratic_form_backward", d_quadratic[:, k], x, m, L, forms[k][1])
        d_x.append(back[0])
        d_means.append(back[1])
        d_factors += do("sum_of_two", back[2], *do("half_log_det_backward", d_half[k], dets[k][1]))
    (d_all,) = do("sum_over_components", np.stack(d_x))
    return value, d_logits, np.stack(d_means), np.stack(d_factors), d_all


def _of_whole(place: int) -> Iterator[WrongForm]:
    """Yield the wrong forms of an output of the whole, from those of its steps."""
    for step, (names, solution) in STEPS.items():
        for at, name in enumerate(names):
            if (name in OF_VALUE) != (place == 0):
                continue
            forms = wrong_forms(f"{step}.{name}", lambda *a, s=solution, at=at: s(*a)[at])
            where = f"in {step}, " if step.endswith("ward") else f"in {name}, "
            where = "" if name in ("value", "d_x") and not step.endswith("ward") else where
            for form in forms:
                bent = (step, at, form.wrong)
                yield form._replace(
                    name=where + form.name, wrong=lambda *a, bent=bent: whole(bent, *a)[place]
                )


def wrong_answers(part: Part, place: int) -> Iterator[WrongForm]:
    """Yield the wrong forms of an output of an exercise, the specific before the general."""
    key = f"{part.name}.{part.output_names[place]}"
    yield from wrong_forms(key, lambda *a: part.solution(*a)[place])
    if part.name == "nll":
        yield from _of_whole(place)
