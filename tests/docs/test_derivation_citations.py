"""Code and derivation hold each other: in `reference.py` each line that computes cites an equation.

Beside the number stand the shape of what the line makes and the formula, which the derivation has
under that number. And the reverse: each equation of sections 1 to 3, 10 and 11 of
docs/derivation.md is cited where the tables of sections 2 and 10 say, on a line that computes, or
(the definitions, and the second way to the Hessian) in a docstring. The comparison is a function of
two texts, so that the tests can take a citation or an equation away and see it fail. Chapter two,
the second derivatives, is what can be left out of the reference without any change to chapter one.
"""

import ast
import functools
import io
import re
import sys
import tokenize
import types

import numpy as np
import pytest
from problems import random_problem
from test_derivation import ROOT, SOURCES, TEXT, cited, words

from gmm_np import reference
from gmm_np.lesson.walkthrough import example, example_direction, walk, walk_tangents

SOURCE = (ROOT / "gmm_np" / "reference.py").read_text(encoding="utf-8")

# Calls into NumPy that move, make or test arrays, and compute nothing.
MOVES = {
    "ascontiguousarray",
    "diagonal",
    "empty",
    "errstate",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "ones",
    "put_along_axis",
    "zeros_like",
    "empty_like",
}
COMPUTES = {"solve_triangular", "cho_solve", "unit_weights"}  # and all of NumPy's others
METHODS = {"sum", "max", "min", "argmax", "mean", "dot"}
# What the equations are about, and what gives the same by another way. They are no step of the
# computation, so a docstring cites them.
DEFINITIONS = {1, 2, 5, 49, 65, 66, 67}
EQUATIONS = {*range(1, 22), *range(49, 68)}


# --- what there is ------------------------------------------------------------------------------


def computes(statement):
    """Whether a simple statement does arithmetic, or hands a gradient on under a new name."""
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else statement
    if isinstance(statement, ast.Assign) and isinstance(value, ast.Name):
        return value.id.startswith("d_")
    for node in ast.walk(value) if value is not None else ():
        if isinstance(node, ast.BinOp | ast.AugAssign):
            return True
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        if negative and not isinstance(node.operand, ast.Constant):
            return True
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in COMPUTES:
                return True
            if isinstance(called, ast.Attribute):
                of_numpy = isinstance(called.value, ast.Name) and called.value.id in ("np", "math")
                if of_numpy and called.attr not in MOVES:
                    return True
                if not of_numpy and called.attr in METHODS:
                    return True
    return False


def simple_statements(body):
    """Statements that hold no others, at any depth, with the function that they stand in."""
    for node in body:
        inner = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
        if isinstance(node, ast.ClassDef):
            continue
        if any(inner):
            for part in inner:
                yield from simple_statements(part)
        else:
            yield node


def comments_of(source):
    """The comment of each line that has one, and whether nothing else stands on the line."""
    found, line = {}, 0
    for part in re.split(r"(?<=\n\n\n)", source):  # few parts differ from one call to the next
        found |= {line + n: comment for n, comment in comments_of_part(part).items()}
        line += part.count("\n")
    return found


@functools.cache
def comments_of_part(source):
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found[token.start[0]] = (token.string, token.line.lstrip().startswith("#"))
    return found


def citations_of(statement, comments):
    """Equations cited in comments on a statement's lines, or right above it."""
    lines = list(range(statement.lineno, statement.end_lineno + 1))
    text = [comments[line][0] for line in lines if line in comments]
    above = statement.lineno - 1
    while above in comments and comments[above][1]:
        text.insert(0, comments[above][0])
        above -= 1
    return cited(" ".join(part.lstrip("# ") for part in text))


def sections(document, first, last):
    return document[document.index(f"\n## {first}. ") : document.index(f"\n## {last + 1}. ")]


@functools.cache
def reference_part(document):
    """Sections 1 to 3, 10 and 11, and the numbers of their equations."""
    text = sections(document, 1, 3) + sections(document, 10, 11)
    return text, {int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", text)}


@functools.cache
def table_of_functions(document):
    """What the tables of sections 2 and 10 say: the equations of each function."""
    chapters = {
        ("forward", "backward"): sections(document, 1, 3),
        ("tangent", "backward_tangent"): sections(document, 10, 10),
    }
    return {
        name + way: cited(cell)
        for ways, text in chapters.items()
        for name, *cells in re.findall(r"^\| `(\w*)\.\.\.` \| (.*?) \| (.*?) \|", text, re.M)
        for way, cell in zip(ways, cells, strict=True)
    }


def complaints(source, document):
    """All that a module and the document do not agree on; nothing if they hold together."""
    found, comments, tree = [], comments_of(source), ast.parse(source)
    _, tags = reference_part(document)
    promised = table_of_functions(document)
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    on_lines, in_docstrings = set(), set()

    for node in tree.body:
        # The contract checks and hands over, and the last lines are an example.
        if getattr(node, "name", "").startswith("nll_"):
            in_docstrings |= cited(ast.get_docstring(node) or "")
        if isinstance(node, ast.If) or getattr(node, "name", "").startswith("nll_"):
            continue
        name = node.name if isinstance(node, ast.FunctionDef) else "the module"
        body = node.body if isinstance(node, ast.FunctionDef) else [node]
        own = set()
        for statement in simple_statements(body):
            if isinstance(statement, ast.Import | ast.ImportFrom | ast.Raise):
                continue
            numbers = citations_of(statement, comments)
            if computes(statement) and not numbers:
                found.append(f"line {statement.lineno} of {name} computes and cites nothing")
            own |= numbers
        on_lines |= own
        if isinstance(node, ast.FunctionDef):
            docstring = cited(ast.get_docstring(node) or "")
            in_docstrings |= docstring
            if name in promised and own != promised[name]:
                found.append(f"{name} cites {sorted(own)}, the table says {sorted(promised[name])}")
            if not own <= docstring and not name.startswith("sum_"):
                found.append(f"the docstring of {name} does not name {sorted(own - docstring)}")
    in_docstrings |= cited(ast.get_docstring(tree) or "")

    found += [f"{name} is in the table and not in the code" for name in promised.keys() - functions]
    found += [
        f"{name} is a step and not in the table"
        for name in functions
        if name.endswith(("forward", "backward", "tangent"))
        and name not in promised
        and not name.startswith("nll_")
    ]
    unknown = (on_lines | in_docstrings) - tags
    found += [f"({n}) is cited and not in sections 1 to 3, 10, 11" for n in sorted(unknown)]
    stated = on_lines | (in_docstrings & DEFINITIONS)
    found += [f"({n}) stands in these sections and no line cites it" for n in sorted(tags - stated)]
    return found


# --- formulas -----------------------------------------------------------------------------------


def text_of(source):
    return source[source.index("# --- 1. ") : source.index("# --- the contract")]


TEXT_OF_REFERENCE = text_of(SOURCE)
# What a comment says after its number: a formula, up to a semicolon and words.
NOTE = re.compile(r"# (?:\[([A-Z, 1]+)\]|scalar)  \((\d+)\)(?:  (.+))?")
# Not a formula of the derivation: two gradients add.
IN_WORDS = {12}
CHAPTER_TWO = "# - - - chapter two - - -\n"
SYMBOLS = {
    r"\\leftarrow": "<-",
    r"\\top": "T",
    r"\^?\\star": "*",
    r"\\ne(?![a-z])": "!=",
    r"\\ldots|\\dots": "...",
    r"\\lvert|\\rvert": "|",
    r"\\tfrac\{(.)\}\{(.)\}": r"\1/\2",
    r"\\tfrac(\d)(\d)": r"\1/\2",
    r"\\overline\{(.*?)\}": r"d_\1",
    r"\\bar ": "d_",
    r"\\dot ?(?!s)": "dot_",
    r"\\mathrm\{(.*?)\}|\\mathcal\{(.*?)\}": r"\1\2",
    r"\\frac\{(.*?)\}\{(.*)\}": r"\1/\2",
    r"\\(?:qquad|quad|text\{.*?\})": ";",
    r"\\(?:left|right|[Bb]igl|[Bb]igr|[,;! ])": "",
    r"\\_": "_",
    r"_\{([a-z])=1\}\^\{?[A-Z]\}?": r"_\1",
    r"\\([A-Za-z]+)": r"\1",
    r"[{}()\s]": "",
}


def plain(formula):
    """A formula of the derivation, or of a comment, without markup, brackets and blanks."""
    for old, new in SYMBOLS.items():
        formula = re.sub(old, new, formula)
    return formula.strip(".,;")


def formulas_under(number, document):
    """Formulas of an equation, and of the sentences around it, up to the next on either side."""
    place = document.index(f"\\tag{{{number}}}")
    start = document.rindex("\\tag", 0, place) if number > 1 else 0
    end = document.index("```math", place)
    region = re.sub(r"\\tag\{\d+\}", "", document[start:end])
    blocks = re.findall(r"```math\n(.*?)(?:```|\Z)", region, flags=re.S)
    prose = re.sub(r"```math.*?(?:```|\Z)", "", region, flags=re.S)
    inline = re.findall(r"\$([^$]*)\$", " ".join(prose.split()))
    return [plain(" ".join(formula.split())) for formula in [*blocks, *inline]]


def stands_under(formula, number, document):
    """Whether an equation says this: both sides of it, or what has only one."""
    sides = [plain(side) for side in re.split(r" = | <- ", formula.split("; ")[0])]
    for theirs in formulas_under(number, document):
        parts = [part.strip(".,") for part in re.split(r"(?<!!)=|<-|,?;+", theirs)]
        if len(sides) == 1 and sides[0] in theirs:
            return True
        if len(sides) == 2 and all(side in parts for side in sides):
            return True
    return False


def without_chapter_two(source):
    """The text of chapter one: up to the next heading each time, without what only ends a part."""
    return re.sub(
        rf"\n\n{CHAPTER_TWO}.*?\n\n(?:\n# - - - (?!chapter).*?\n\n(?=\n)|(?=\n# ---))",
        "\n",
        source,
        flags=re.S,
    )


def notes(source):
    """Line, number and formula of each comment that has them."""
    for line, text in enumerate(source.splitlines(), 1):
        match = NOTE.search(text)
        if match:
            yield line, int(match[2]), match[3] or ""


def formula_complaints(source, document):
    return [
        f"line {line}: ({number}) does not say {formula!r}"
        for line, number, formula in notes(source)
        if number not in IN_WORDS and not (formula and stands_under(formula, number, document))
    ]


def test_each_line_that_computes_has_its_shape_and_a_formula_of_its_equation():
    assert formula_complaints(TEXT_OF_REFERENCE, TEXT) == []
    noted = {line for line, _, _ in notes(TEXT_OF_REFERENCE)}
    assert len(noted) > 25
    for function in ast.parse(TEXT_OF_REFERENCE).body:
        for statement in simple_statements(function.body):
            if computes(statement):
                assert noted & {statement.lineno - 1, statement.lineno}, statement.lineno


def test_each_formula_of_the_walk_stands_under_its_equation():
    start = example()
    for row in walk(start) + walk_tangents(start, example_direction(start)):
        formula = row.formula
        if " = " in formula or " <- " in formula:
            number = row.equations[0]
            assert stands_under(formula, number, TEXT) or number == 12, (row.name, formula)


def test_the_text_of_the_reference_is_150_lines():
    chapter_one = text_of(without_chapter_two(SOURCE))
    assert 140 < len(chapter_one.strip().splitlines()) <= 150
    assert SOURCE.count("extended_range.") - SOURCE.count("extended_range.py") == 2


def test_chapter_one_stands_without_chapter_two(monkeypatch):
    """What is left has no tangent in it, and computes what the whole module does, bit for bit."""
    chapter_one = without_chapter_two(SOURCE)
    assert SOURCE.count(CHAPTER_TWO) == 7
    assert CHAPTER_TWO not in chapter_one
    names = {n.name for n in ast.parse(chapter_one).body if isinstance(n, ast.FunctionDef)}
    in_full = {n.name for n in ast.parse(SOURCE).body if isinstance(n, ast.FunctionDef)}
    assert {name for name in in_full - names if not name.endswith("tangent")} == set()
    assert "tangent" not in text_of(chapter_one)
    assert "dot_" not in text_of(chapter_one)
    module = types.ModuleType("gmm_np.chapter_one")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(chapter_one, "chapter one", "exec"), vars(module))
    problem = random_problem(1)
    value, cache = module.nll_forward(*problem)
    expected, full_cache = reference.nll_forward(*problem)
    assert value == expected
    gradients, in_both = module.nll_backward(cache), reference.nll_backward(full_cache)
    for one, other in zip(gradients, in_both, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("d_e_nk = 2 d_q_nk y_nk", "d_e_nk = d_q_nk y_nk"),
        ("d_h_k = -sum_n d_t_nk", "d_h_k = sum_n d_t_nk"),
        ("(18)  d_e_nk", "(19)  d_e_nk"),
        ("z_nk^T)", "y_nk^T)"),
        ("pi_k sum_j d_log pi_j", "pi_k d_log pi_k"),
        ("[N, D]  (6)  e_nk = x_n - mu_k", "[N, D]  (6)"),
        ("dot_q_nk = 2 z_nk^T", "dot_q_nk = z_nk^T"),
        ("dot_e_nk = dot_x_n - dot_mu_k", "dot_e_nk = dot_x_n + dot_mu_k"),
        ("(58)  dot_d_t_nk", "(15)  dot_d_t_nk"),
        ("dot_d_log pi_k - dot_pi_k sum_j", "dot_d_log pi_k + dot_pi_k sum_j"),
    ],
)
def test_a_wrong_formula_is_found(old, new):
    assert old in TEXT_OF_REFERENCE
    assert len(formula_complaints(TEXT_OF_REFERENCE.replace(old, new, 1), TEXT)) == 1


# --- the two directions -------------------------------------------------------------------------


def test_code_and_derivation_hold_each_other():
    assert complaints(SOURCE, TEXT) == []
    assert len(table_of_functions(TEXT)) == 28
    assert reference_part(TEXT)[1] == EQUATIONS


def test_every_equation_of_the_document_is_cited_somewhere_in_the_package():
    """Also those of the engine, the parametrizations, the wide range and the gradient check."""
    tags = {int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", TEXT)}
    # (28) is for comparisons with programs that take covariances; this package takes factors.
    unused = {28}
    found = set().union(
        *(cited(text) for path in SOURCES for text in words(path.read_text(encoding="utf-8")))
    )
    assert sorted(tags - unused - found) == []


# --- and they can fail --------------------------------------------------------------------------


def without(text, start, end):
    return text[:start] + text[end:]


def citations_in_comments(source):
    """Places of each cited number, with the parentheses, in comments that stand beside code."""
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            start = offsets[token.start[0] - 1] + token.start[1]
            for match in re.finditer(r"(?<![\w)\]}])\((\d{1,3})\)", token.string):
                yield start + match.start(), start + match.end()


def test_every_single_citation_counts():
    places = list(citations_in_comments(SOURCE))
    assert len(places) > 30
    for start, end in places:
        line = SOURCE.count("\n", 0, start) + 1
        assert complaints(without(SOURCE, start, end), TEXT), f"line {line}: not missed"


def test_every_wrong_citation_is_found():
    for start, end in citations_in_comments(SOURCE):
        wrong = SOURCE[:start] + "(22)" + SOURCE[end:]
        assert complaints(wrong, TEXT), SOURCE[start:end]


@pytest.mark.parametrize("number", sorted(EQUATIONS))
def test_every_single_equation_counts(number):
    removed = re.sub(rf"^\\tag\{{{number}\}}\n", "", TEXT, flags=re.M)
    assert len(removed) < len(TEXT)
    assert any(f"({number}) is cited" in line for line in complaints(SOURCE, removed))


def test_a_new_equation_has_to_be_used():
    longer = TEXT.replace("\\tag{21}\n", "\\tag{21}\n\\tag{99}\n")
    assert any("(99) stands" in line for line in complaints(SOURCE, longer))


@pytest.mark.parametrize(
    "line",
    [
        "quadratic = quadratic * 2.0",
        "quadratic += 1",
        "quadratic = -quadratic",
        "quadratic = np.exp(quadratic)",
        "quadratic = quadratic.sum()",
        "quadratic: FloatArray = cho_solve((factor, True), x)",
        "if quadratic.any():\n        quadratic[0] = 0.5 * quadratic[0]",
    ],
)
def test_a_new_line_that_computes_has_to_cite(line):
    place = "    half_log_det, _ = half_log_det_forward(factor)"
    assert SOURCE.count(place) == 1
    changed = SOURCE.replace(place, f"    {line}\n{place}")
    assert any("computes and cites nothing" in text for text in complaints(changed, TEXT))
    assert complaints(SOURCE.replace(place, f"    far = np.isnan(z)\n{place}"), TEXT) == []
