"""The page that `gmm-np fit --report` writes: valid, whole, by itself, and true."""

import base64
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import gmm_np
from gmm_np.cli import main
from gmm_np.commands import html_page, html_report
from gmm_np.commands.models import load_model
from gmm_np.datasets import load_old_faithful
from gmm_np.tables import write_table

pytestmark = pytest.mark.needs_extras

VOID = {"meta", "img"}


class Page(HTMLParser):
    """The elements of a page, which have to nest, and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.rows = [], [], [], []
        self.ids, self.sections = [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), tag
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if "tr" in self.open and self.open[-1] != "tr":
            self.rows[-1][-1] += data

    def having(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(self.texts)


def check_page(text):
    """Return the page, of which everything is there that a valid one has to have."""
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    page = Page(text)
    names = [name for name, _ in page.elements]
    assert names.count("h1") == names.count("title") == names.count("main") == 1
    assert len(page.ids) == len(set(page.ids))
    assert all(id_ and not re.search(r"\s", id_) for id_ in page.ids)
    targets = [attributes["href"] for attributes in page.having("a")]
    assert targets == [f"#{id_}" for id_ in page.ids]
    for image in page.having("img"):
        assert len(image["alt"]) > 10
        head, _, data = image["src"].partition(",")
        assert head == "data:image/svg+xml;base64"
        assert ET.fromstring(base64.b64decode(data)).tag.endswith("svg")
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)  # by itself
    assert not re.search(r"<(script|link|iframe|object)|url\(|@import", text)
    return page


def report(*arguments, code=0):
    """Run a fit with a report; return its page."""
    path = Path("report.html")
    assert main(["fit", *map(str, arguments), "--report", str(path)]) == code
    return check_page(path.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def geyser():
    x, names = load_old_faithful()
    write_table(Path("geyser.csv"), x, names)
    return x


def test_the_report_says_what_was_fitted_to_what_and_how(geyser, capsys):
    page = report("geyser.csv", "-k", "1-3", "--n-init", 1, "--out", "m.npz", "--seed", 7)
    assert "Report: report.html\n" in capsys.readouterr().out
    assert "Gaussian mixture of geyser.csv" in page.text
    least, most = (f"{value:.10g}" for value in (geyser[:, 1].min(), geyser[:, 1].max()))
    mean, deviation = (f"{value:.5g}" for value in (geyser[:, 1].mean(), geyser[:, 1].std()))
    assert ["waiting", least, most, mean, deviation] in page.rows
    model = load_model(Path("m.npz"))[0]
    (chosen,) = [row for row in page.rows if row[-1] == "chosen"]
    assert chosen[:2] == ["full", "2"]
    assert chosen[4] == f"{model.bic(geyser):.2f}"
    assert chosen[5] == f"{model.aic(geyser):.2f}"
    assert len(page.having("img")) == 3 + 2  # each criterion, the plane, and every two columns
    assert (
        "gmm-np fit geyser.csv -k 1-3 --n-init 1 --out m.npz --seed 7 --report report.html"
        in page.text
    )
    assert f"gmm-np {gmm_np.__version__}, Python " in page.text
    assert "EM, to the end where an iteration gains less than 1e-06 nats a sample" in page.text
    assert f"converged after {model.n_iter_} iterations" in page.text


def test_the_report_has_the_standard_errors_of_the_mixture(geyser):
    page = report(
        "geyser.csv", "-k", 2, "--solver", "em+newton", "--reg-covar", 0, "--out", "m.npz"
    )
    model = load_model(Path("m.npz"))[0]
    errors = gmm_np.standard_errors(geyser, model.parameters_)
    weight = f"{model.weights_[0]:.4f} ({errors.weights[0]:.4f})"
    mean = f"{model.means_[0, 1]:.3f} ({errors.means[0, 1]:.3f})"
    assert weight in [row[1] for row in page.rows if row[2:3] == ["eruptions"]]
    assert mean in [row[3] for row in page.rows if row[2:3] == ["waiting"]]
    assert "warning" not in [a.get("class") for a in page.having("p")]


def test_where_the_information_is_singular_the_report_says_so_and_goes_on(capsys):
    rng = np.random.default_rng(0)
    write_table(Path("two.csv"), rng.normal(size=(30, 2)), ["a", "b"])
    page = report("two.csv", "-k", 6)
    assert "No standard errors." in page.text
    assert "the observed information is not positive definite" in page.text
    assert "How it was made" in page.text
    assert "Report: report.html" in capsys.readouterr().out


def test_the_rows_are_those_of_largest_entropy_and_of_least_density(geyser):
    lines = Path("geyser.csv").read_text(encoding="utf-8").splitlines()
    lines.insert(5, ",70")  # a row that is left out keeps its line
    Path("gaps.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    page = report("gaps.csv", "-k", 2, "--missing", "drop", "--out", "m.npz", "--stream")
    model = load_model(Path("m.npz"))[0]
    line = np.arange(len(geyser)) + 2
    line[line >= 6] += 1
    p = model.predict_proba(geyser)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
    found = [row[0] for row in page.rows if row[0].startswith("line ")]
    assert found[:10] == [f"line {line[i]}" for i in np.argsort(-entropy)[:10]]
    least = np.argsort(model.score_samples(geyser), kind="stable")[:10]
    assert found[10:] == [f"line {line[i]}" for i in least]
    assert "left out for a missing value: 1" in page.text


def test_names_from_a_file_are_text():
    rng = np.random.default_rng(0)
    names = ["<script>alert(1)</script>", "\"&'><img src=x onerror=alert(1)>", "$x$ & <b>"]
    write_table(Path("evil.csv"), rng.normal(size=(60, 3)), names)
    page = report("evil.csv", "-k", 1)
    assert [row[0] for row in page.rows[1:4]] == names
    assert not page.having("script")
    assert not page.having("b")
    assert all("onerror" not in image for image in page.having("img"))


@pytest.mark.parametrize(("columns", "n_pictures"), [("1", 1), ("1-2", 2), ("1-4", 1)])
def test_pictures_for_any_number_of_columns(columns, n_pictures):
    write_table("four.csv", np.random.default_rng(0).normal(size=(90, 4)), list("abcd"))
    page = report("four.csv", "-k", 1, "--columns", columns)
    assert len(page.having("img")) == n_pictures
    assert "There is one component" in page.text


def test_of_many_columns_those_are_drawn_in_which_the_components_lie_apart():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 6))
    x[60:, [1, 3, 4, 5]] += 6.0
    write_table(Path("six.csv"), x, list("abcdef"))
    page = report("six.csv", "-k", 2, "--family", "diag")
    assert html_report._telling(gmm_np.GaussianMixture(2, random_state=0).fit(x), 4) == [1, 3, 4, 5]
    assert "2 others are left out" in page.text


def test_rows_with_missing_values_and_weights_are_counted_as_they_are():
    rng = np.random.default_rng(0)
    x = rng.normal(5.0, 2.0, size=(80, 2))
    weight = rng.integers(0, 3, size=80).astype(float)
    gaps = x.copy()
    gaps[::7, 0] = np.nan
    rows = [f"{'' if np.isnan(a) else a},{b},{w}" for (a, b), w in zip(gaps, weight, strict=True)]
    Path("w.csv").write_text("\n".join(["a,b,w", *rows]) + "\n", encoding="utf-8")
    page = report("w.csv", "-k", 1, "--weights", "w", "--missing", "marginal")
    used = weight > 0
    a, w = gaps[used, 0], weight[used]
    seen = ~np.isnan(a)
    mean = np.average(a[seen], weights=w[seen])
    spread = np.sqrt(np.average((a[seen] - mean) ** 2, weights=w[seen]))
    (row,) = [row for row in page.rows if row[0] == "a" and len(row) == 6]
    assert row[1] == str((~seen).sum())
    assert row[4:] == [f"{mean:.5g}", f"{spread:.5g}"]


def test_a_report_that_fails_leaves_no_file_and_the_fit(geyser, capsys, monkeypatch):
    del geyser
    Path("report.html").write_text("before", encoding="utf-8")

    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(html_report, "page", stop)
    assert main(["fit", "geyser.csv", "-k", "1", "--report", "report.html"]) == 130
    printed = capsys.readouterr()
    assert "the fit is there, but report.html was not written" in printed.err
    assert "NLL:" in printed.out
    assert "Report:" not in printed.out
    assert Path("report.html").read_text(encoding="utf-8") == "before"
    assert [path.name for path in Path().iterdir() if path.suffix == ".part"] == []


def test_a_report_is_refused_before_the_work_begins(capsys, monkeypatch):
    for arguments, said in (
        (["none.csv", "--report", "r.pdf"], "--report: a report is an .html file; name it so, got"),
        (["none.csv", "--report", "no/r.html"], "there is no directory"),
    ):
        with pytest.raises(SystemExit):
            main(["fit", "-k", "1", *arguments])
        assert said in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit):
        main(["fit", "none.csv", "-k", "1", "--report", "r.html"])
    assert "pip install matplotlib" in capsys.readouterr().err


def test_an_element_escapes_whatever_is_no_html():
    tag = html_page.tag
    assert tag("p", "<&>", tag("b", 1), class_='"x"') == (
        '<p class="&quot;x&quot;">&lt;&amp;&gt;<b>1</b></p>'
    )
    assert tag("p", "a\x00b\ud800") == "<p>a�b�</p>"
    assert tag("img", alt="") == '<img alt="">'


def test_of_very_many_parameters_a_report_has_no_errors_unasked(geyser, monkeypatch):
    del geyser
    monkeypatch.setattr("gmm_np.commands.fit._UNASKED", 10)  # two components have 11
    assert "11 parameters, whose errors take long" in report("geyser.csv", "-k", 2).text
    asked = report("geyser.csv", "-k", 2, "--errors", "sandwich").text
    assert "Standard errors (sandwich) are in parentheses." in asked
