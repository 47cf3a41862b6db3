"""What `gmm-np conformance init` writes runs, and tells a right likelihood from a wrong one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gmm_np.cli import main
from gmm_np.conformance import run
from gmm_np.conformance.command import LANGUAGES
from gmm_np.conformance.starters import COMMANDS

# The plainest likelihood that is right, in each language. A wrong one has no (D/2) log 2 pi, which
# no gradient shows.
DOCS = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
START = DOCS.partition("<!-- start: begin -->")[2].partition("<!-- start: end -->")[0]
SHELL, PYTHON, TABLE = re.findall(r"```\w+\n(.*?)```", START, re.S)
C = """\
#include <math.h>
int nll(int N, int K, int D, const double *x, const double *logits, const double *means,
        const double *chol, double *value, double *d_logits, double *d_means, double *d_chol) {
    double z[64][8], y[64][8], t[64], total = 0.0, top, p, r;
    for (int k = 0; k < K; k++) total += exp(logits[k]);
    *value = 0.0;
    for (int n = 0; n < N; n++) {
        for (int k = 0; k < K; k++) {
            const double *L = chol + k * D * D, *mu = means + k * D;
            t[k] = logits[k] - log(total) - 0.5 * D * log(2 * 3.14159265358979323846);
            for (int i = 0; i < D; i++) {
                z[k][i] = x[n * D + i] - mu[i];
                for (int j = 0; j < i; j++) z[k][i] -= L[i * D + j] * z[k][j];
                z[k][i] /= L[i * D + i];
                t[k] -= log(L[i * D + i]) + 0.5 * z[k][i] * z[k][i];
            }
            for (int i = D - 1; i >= 0; i--) {
                y[k][i] = z[k][i];
                for (int j = i + 1; j < D; j++) y[k][i] -= L[j * D + i] * y[k][j];
                y[k][i] /= L[i * D + i];
            }
        }
        top = t[0], p = 0.0;
        for (int k = 1; k < K; k++) top = fmax(top, t[k]);
        for (int k = 0; k < K; k++) p += exp(t[k] - top);
        *value -= (top + log(p)) / N;
        for (int k = 0; k < K; k++) {
            r = exp(t[k] - top) / p / N;
            d_logits[k] += exp(logits[k]) / total / N - r;
            for (int i = 0; i < D; i++) {
                d_means[k * D + i] -= r * y[k][i];
                d_chol[(k * D + i) * D + i] += r / chol[(k * D + i) * D + i];
                for (int j = 0; j <= i; j++) d_chol[(k * D + i) * D + j] -= r * y[k][i] * z[k][j];
            }
        }
    }
    return 0;
}
"""
JAVASCRIPT = """\
const zip = (a, b) => a.map((v, i) => [v, b[i]]);
const sum = (a) => a.reduce((s, v) => s + v, 0);
function lower(L, b) { // L z = b
  const z = [];
  for (let i = 0; i < b.length; i++)
    z.push((b[i] - sum(z.map((v, j) => L[i][j] * v))) / L[i][i]);
  return z;
}
function upper(L, z) { // L^T y = z
  const y = z.slice();
  for (let i = z.length - 1; i >= 0; i--) {
    for (let j = i + 1; j < z.length; j++) y[i] -= L[j][i] * y[j];
    y[i] /= L[i][i];
  }
  return y;
}
exports.nll = (x, logits, means, chol) => {
  const [N, D] = [x.length, x[0].length];
  const pi = logits.map((a) => Math.exp(a) / sum(logits.map(Math.exp)));
  const dLogits = pi.slice(), dMeans = means.map((m) => m.map(() => 0));
  const dChol = chol.map((L) => L.map((row) => row.map(() => 0)));
  let value = 0;
  for (const row of x) {
    const z = zip(means, chol).map(([m, L]) => lower(L, zip(row, m).map(([a, b]) => a - b)));
    const t = zip(chol, z).map(([L, v], k) => Math.log(pi[k]) - (D / 2) * Math.log(2 * Math.PI)
      - sum(L.map((l, i) => Math.log(l[i]))) - sum(v.map((w) => w * w)) / 2);
    const top = Math.max(...t), p = sum(t.map((a) => Math.exp(a - top)));
    value -= (top + Math.log(p)) / N;
    zip(chol, z).forEach(([L, v], k) => {
      const r = Math.exp(t[k] - top) / p / N, y = upper(L, v);
      dLogits[k] -= r;
      for (let i = 0; i < D; i++) {
        dMeans[k][i] -= r * y[i];
        dChol[k][i][i] += r / L[i][i];
        for (let j = 0; j <= i; j++) dChol[k][i][j] -= r * y[i] * v[j];
      }
    });
  }
  return [value, dLogits, dMeans, dChol];
};
"""
R = """\
nll <- function(x, logits, means, chol) {
  N <- nrow(x); K <- length(logits); D <- ncol(x)
  log_pi <- logits - log(sum(exp(logits)))
  z <- y <- array(0, c(D, N, K)); terms <- matrix(0, N, K); d_chol <- 0 * chol
  for (k in 1:K) {
    L <- matrix(chol[, , k], D)
    z[, , k] <- forwardsolve(L, t(x) - means[k, ])
    y[, , k] <- backsolve(t(L), matrix(z[, , k], D))
    terms[, k] <- log_pi[k] - sum(log(diag(L))) - D / 2 * log(2 * pi) -
      colSums(matrix(z[, , k], D)^2) / 2
  }
  top <- apply(terms, 1, max)
  log_p <- top + log(rowSums(exp(terms - top)))
  r <- exp(terms - log_p) / N
  d_means <- t(sapply(1:K, function(k) -matrix(y[, , k], D) %*% r[, k]))
  for (k in 1:K) {
    m <- matrix(y[, , k], D) %*% (r[, k] * t(matrix(z[, , k], D)))
    m[upper.tri(m)] <- 0
    d_chol[, , k] <- diag(sum(r[, k]) / diag(matrix(chol[, , k], D)), D) - m
  }
  list(-mean(log_p), exp(log_pi) - colSums(r), matrix(d_means, K), d_chol)
}
"""
OCTAVE = """\
function [value, d_logits, d_means, d_chol] = nll(x, logits, means, chol)
  [N, D] = size(x); K = numel(logits); d_means = 0 * means; d_chol = 0 * chol;
  log_pi = logits - log(sum(exp(logits)));
  for k = 1:K
    L = chol(:, :, k);
    z{k} = L \\ (x - means(k, :))';
    y{k} = L' \\ z{k};
    terms(:, k) = log_pi(k) - sum(log(diag(L))) - D / 2 * log(2 * pi) - sum(z{k} .^ 2, 1)' / 2;
  end
  top = max(terms, [], 2);
  log_p = top + log(sum(exp(terms - top), 2));
  r = exp(terms - log_p) / N;
  for k = 1:K
    d_means(k, :) = -(y{k} * r(:, k))';
    weighted = y{k} * (r(:, k) .* z{k}');
    d_chol(:, :, k) = diag(sum(r(:, k)) ./ diag(chol(:, :, k))) - tril(weighted);
  end
  value = -mean(log_p); d_logits = exp(log_pi) - sum(r, 1)';
end
"""
# What is written, what in it is the constant, and the program that runs it.
LIKELIHOODS = {
    "python": ("mine.py", PYTHON, "2 * np.pi", sys.executable),
    "c": ("mine.c", C, "2 * 3.14159265358979323846", "cc"),
    "javascript": ("mine.js", JAVASCRIPT, "2 * Math.PI", "node"),
    "r": ("mine.R", R, "2 * pi", "Rscript"),
    "octave": ("nll.m", OCTAVE, "2 * pi", "octave-cli"),
}


def conform(language, *options):
    """Run the command that `init` prints, in this process: its program is not on the PATH."""
    before, _, command = COMMANDS[language].rpartition("gmm-np ")
    if before:
        subprocess.run(before.rstrip(" &"), shell=True, check=True)
    words = command.replace('"', "").split()
    if "--command" in words:  # the words of the program, which were quoted
        at = words.index("--command") + 1
        words[at:] = [" ".join(words[at:])]
    return main([*words, *options])


@pytest.mark.parametrize("language", LIKELIHOODS)
def test_starter_passes_with_a_right_likelihood_and_fails_with_a_wrong_one(
    language, tmp_path, monkeypatch, capsys
):
    name, right, constant, program = LIKELIHOODS[language]
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    monkeypatch.chdir(tmp_path)
    assert main(["conformance", "init", ".", "--language", language]) == 0
    assert f"    {COMMANDS[language]}" in capsys.readouterr().out
    assert constant in right
    (tmp_path / name).write_text(right, encoding="utf-8")
    code = conform(language, "--family", "dense")
    told = capsys.readouterr().out
    assert (code, "8 of 8 supported cases pass." in told) == (0, True), told
    (tmp_path / name).write_text(right.replace(constant, "1"), encoding="utf-8")
    assert conform(language, "--case", "dense-001") == 4
    assert "looks like the mutant no_log_2pi" in capsys.readouterr().out


@pytest.mark.parametrize("language", ["c", "javascript"])
def test_starter_answers_what_it_does_not_support_and_what_it_rejects(
    language, tmp_path, monkeypatch, capsys
):
    if shutil.which(LIKELIHOODS[language][3]) is None:
        pytest.skip(f"no {LIKELIHOODS[language][3]} here")
    monkeypatch.chdir(tmp_path)
    main(["conformance", "init", ".", "--language", language])  # as it is, all is rejected
    cases = ["weights-001", "zero_diagonal-001", "one_dimension-001"]
    capsys.readouterr()
    assert conform(language, *(word for case in cases for word in ("--case", case))) == 4
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert rows["weights"].endswith(" unsupported")
    assert rows["zero_diagonal"].endswith(" pass")
    assert rows["one_dimension"].endswith(" WRONG")


def rows(printed):
    """Cases and verdict by family, of a table."""
    lines = printed.partition("verdict\n")[2].partition("\n\n")[0].splitlines()
    return {words[0]: (words[1], words[8:]) for words in map(str.split, lines)}


@pytest.mark.slow
def test_first_table_is_what_the_docs_print(tmp_path, monkeypatch, capsys):
    venv, _, init, enter, run = SHELL.splitlines()
    assert venv.startswith("python3 -m venv trial")
    monkeypatch.chdir(tmp_path)
    assert main(init.split()[1:]) == 0
    monkeypatch.chdir(enter.split()[1])
    Path("mine.py").write_text(PYTHON, encoding="utf-8")
    capsys.readouterr()
    assert main(run.split()[1:]) == 0
    found, shown = rows(capsys.readouterr().out), rows(TABLE)
    assert len(shown) > 15
    assert {name: found[name] for name in shown} == shown


def test_starters_are_those_of_the_command():
    assert tuple(COMMANDS) == LANGUAGES


def test_no_starter_overwrites_anything(tmp_path, capsys):
    (tmp_path / "mine.c").write_text("precious", encoding="utf-8")
    assert main(["conformance", "init", str(tmp_path), "--language", "c"]) == 2
    assert "mine.c is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.c"]
    assert (tmp_path / "mine.c").read_text(encoding="utf-8") == "precious"


def test_unwritten_python_function_is_not_supported_yet(tmp_path, monkeypatch):
    main(["conformance", "init", str(tmp_path), "--language", "python"])
    monkeypatch.chdir(tmp_path)
    assert run("adapter:nll", names=["dense"]).exit_code == 6


def test_starter_in_julia_says_what_the_others_say(tmp_path):
    # No Julia here: what it reads and writes, by its words.
    main(["conformance", "init", str(tmp_path), "--language", "julia"])
    adapter = (tmp_path / "adapter.jl").read_text(encoding="utf-8")
    assert COMMANDS["julia"] in adapter
    for word in ('include("mine.jl")', "words[3:6]", "words[7:end]", '"unsupported"', '["ok";'):
        assert word in adapter
    assert "function nll(x, logits, means, chol)" in (tmp_path / "mine.jl").read_text()
