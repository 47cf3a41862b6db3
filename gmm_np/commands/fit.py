"""gmm-np fit: a mixture fitted to a table."""

from __future__ import annotations

import argparse
import re

from gmm_np.commands.candidates import Candidate, fit_candidates
from gmm_np.commands.models import save_model
from gmm_np.commands.options import (
    Commands,
    add_data_options,
    model_file,
    new_command,
    not_negative,
    picture,
    whole_number,
)
from gmm_np.commands.report import SOLVERS, describe, full_covariances, json_text, mixture_document
from gmm_np.commands.samples import Samples, load_samples

FAMILIES = ("full", "tied", "diag", "spherical", "shared_spherical")


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new_command(
        commands,
        "fit",
        _run,
        summary="fit a mixture to a table",
        description="""Fit K Gaussians to the rows of a table, print the mixture, and write it to
        MODEL for the other commands. With several K or families each is fitted, and the least BIC
        (Bayesian information criterion) chooses. Ctrl-C ends the fit; with --out the best model so
        far is kept.""",
        examples="""
        gmm-np fit data.csv -k 3
        gmm-np fit data.csv -k 3 --family diag --out model.npz --plot fit.png
        gmm-np fit data.csv -k 1-8 --family full,tied --plot-bic bic.png
        gmm-np fit data.csv -k 2 --columns eruptions,waiting --json
        gmm-np fit large.npy -k 20 --stream --out model.npz
        """,
    )
    add_data_options(parser)
    parser.add_argument(
        "-k",
        "--components",
        type=_numbers,
        required=True,
        metavar="K",
        help="components: a number, or several to choose from as 1-8 or 2,4,8",
    )
    parser.add_argument(
        "--family",
        type=_families,
        default=["full"],
        metavar="F",
        help=f"covariances: {', '.join(FAMILIES)}, or several to choose from as full,diag "
        "(default: full)",
    )
    parser.add_argument(
        "--weights", metavar="COLUMN", help="a column with a weight for each row, not to be fitted"
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="read DATA anew in each pass rather than hold it in memory; .npy is the fastest",
    )
    group = parser.add_argument_group("the fit")
    group.add_argument(
        "--solver",
        choices=SOLVERS,
        default="em",
        metavar="S",
        help="em, lbfgs or adam (default: %(default)s)",
    )
    group.add_argument(
        "--n-init",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="starts, of which the best is kept (default: %(default)s)",
    )
    group.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="of the starts (default: 0)"
    )
    group.add_argument(
        "--tol",
        type=not_negative,
        default=1e-6,
        metavar="T",
        help="end where an iteration gains less, in nats a sample (default: 1e-6)",
    )
    group.add_argument(
        "--max-iter",
        type=whole_number(1),
        default=1000,
        metavar="N",
        help="iterations at most, of each start (default: %(default)s)",
    )
    group.add_argument(
        "--reg-covar",
        type=not_negative,
        default=1e-6,
        metavar="R",
        help="added to each variance, so that none becomes zero (default: 1e-6)",
    )
    group = parser.add_argument_group("what is written")
    group.add_argument("--out", type=model_file, metavar="MODEL", help="the model, an .npz file")
    group.add_argument("--plot", type=picture, metavar="PNG", help="a picture of data and mixture")
    group.add_argument(
        "--plot-history", type=picture, metavar="PNG", help="a picture of the loss by iteration"
    )
    group.add_argument(
        "--plot-responsibilities",
        type=picture,
        metavar="PNG",
        help="a picture of which component made which row",
    )
    group.add_argument(
        "--plot-bic", type=picture, metavar="PNG", help="a picture of the BIC by K and family"
    )
    group.add_argument("--json", action="store_true", help="print one JSON document")


def _run(options: argparse.Namespace) -> int:
    samples = load_samples(options, stream=options.stream)
    candidates = fit_candidates(samples, options)
    best = candidates[0]
    if options.out is not None:
        save_model(best.model, samples.names, options.out)
        vars(best.model).pop("feature_names_in_", None)
    if best.interrupted:
        raise KeyboardInterrupt(_what_is_kept(best, options))
    _draw(candidates, samples, options)
    if options.json:
        print(json_text(_document(candidates, samples, options)))
    else:
        print(_text(candidates, samples, options))
    return 0


def _what_is_kept(best: Candidate, options: argparse.Namespace) -> str:
    if options.out is None:
        return "nothing is kept: --out MODEL keeps the best model so far"
    which = f"{best.family}, K = {best.n_components}, after {best.model.n_iter_} iterations"
    return f"the best model so far ({which}) is in {options.out}"


def _document(
    candidates: list[Candidate], samples: Samples, options: argparse.Namespace
) -> dict[str, object]:
    best = candidates[0]
    assert best.score is not None
    document = {
        "n_samples": best.score.n_samples,
        **mixture_document(best.model),
        **best.criteria,
        "converged": bool(best.model.converged_),
        "n_iter": int(best.model.n_iter_),
        "solver": options.solver,
        "columns": samples.names,
    }
    if len(candidates) > 1:
        document["candidates"] = [
            {
                "family": c.family,
                "n_components": c.n_components,
                **({"nll": c.criteria["nll"], "bic": c.criteria["bic"]} if c.score else {}),
                "error": c.error or None,
            }
            for c in candidates
        ]
    return document


def _text(candidates: list[Candidate], samples: Samples, options: argparse.Namespace) -> str:
    best, model = candidates[0], candidates[0].model
    assert best.score is not None
    found = best.criteria
    plural = "" if best.n_components == 1 else "s"
    lines = [f"{options.data}: {best.score.n_samples} rows of {', '.join(samples.names)}"]
    if len(candidates) > 1:
        lines += ["", f"{'family':<18}{'K':>4}{'BIC':>16}{'NLL':>14}"]
        for c in candidates:
            numbers = (
                f"{c.criteria['bic']:16.4f}{c.criteria['nll']:14.6f}" if c.score else "  failed"
            )
            lines.append(f"{c.family:<18}{c.n_components:>4}{numbers}")
        lines += ["", "of the least BIC:"]
    which = (
        f"{best.n_components} component{plural}, family {best.family}, by {SOLVERS[options.solver]}"
    )
    reached = "converged" if model.converged_ else "not converged; raise --max-iter or --tol:"
    lines += [
        f"{which}: {reached} after {model.n_iter_} iterations",
        "",
        f"NLL: {found['nll']:.9f} nats a sample (log-likelihood {found['log_likelihood']:.6f})",
        f"BIC {found['bic']:.4f}, AIC {found['aic']:.4f}, {best.n_free} free parameters",
        "",
        describe(
            model.weights_,
            model.means_,
            full_covariances(model.covariances_, model.means_, best.family),
            samples.names,
        ),
    ]
    written = [
        ("Model", options.out),
        ("Picture", options.plot),
        ("Picture of the loss", options.plot_history),
        ("Picture of the responsibilities", options.plot_responsibilities),
        ("Picture of the BIC", options.plot_bic),
    ]
    files = [f"{what}: {path}" for what, path in written if path is not None]
    return "\n".join([*lines, "", *files] if files else lines)


def _draw(candidates: list[Candidate], samples: Samples, options: argparse.Namespace) -> None:
    wanted = (
        *(options.plot, options.plot_history),
        *(options.plot_responsibilities, options.plot_bic),
    )
    if not any(wanted):
        return
    from gmm_np import plotting

    best = candidates[0]
    what = f"K = {best.n_components}, {best.family}, NLL {best.criteria['nll']:.4f} nats a sample"
    title = f"{options.data.name}: {what}"
    if options.plot or options.plot_responsibilities:
        x = samples.some_rows(5000, options.seed)
        draw = plotting.plot_mixture if x.shape[1] <= 2 else plotting.plot_pairs
        for path, function in (
            (options.plot, draw),
            (options.plot_responsibilities, plotting.plot_responsibilities),
        ):
            if path is not None:
                figure = function(x, best.model, labels=samples.names, title=title)
                plotting.save_figure(figure, path)
    if options.plot_history:
        names = [SOLVERS[options.solver]]
        if len(best.histories) > 1:
            names = [f"start {number}" for number in range(1, len(best.histories) + 1)]
        histories = dict(zip(names, best.histories, strict=True))
        plotting.save_figure(plotting.plot_history(histories, title=title), options.plot_history)
    if options.plot_bic:
        scores: dict[str, dict[int, float | None]] = {}
        for family in options.family:
            own = [c for c in candidates if c.family == family]
            scores[family] = {c.n_components: c.criteria["bic"] if c.score else None for c in own}
        figure = plotting.plot_bic(scores, title=options.data.name)
        plotting.save_figure(figure, options.plot_bic)


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,6})\s*(?:-\s*([0-9]{1,6})\s*)?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from 1, or several as 1-8 or 2,4,8; got {text!r}"
            )
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


def _families(text: str) -> list[str]:
    families = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for family in families:
        if family not in FAMILIES:
            raise argparse.ArgumentTypeError(
                f"must be one or several of {', '.join(FAMILIES)}; got {family!r}"
            )
    return families
