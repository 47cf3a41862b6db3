"""Progress goes to stderr, a bar on a terminal and plain lines elsewhere."""

import io
import sys

import pytest

from gmm_np.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def work(**options):
    with Progress("fit", 3, "start", **options) as line:
        for step in range(3):
            line.advance(note=f"loss {step}")


def test_short_work_writes_nothing_where_there_is_no_terminal(capsys):
    work()
    assert capsys.readouterr() == ("", "")


def test_long_work_writes_a_plain_line_now_and_then(capsys):
    work(every=0.0)
    assert capsys.readouterr().err == (
        "fit: start 1 of 3, loss 0\nfit: start 2 of 3, loss 1\nfit: start 3 of 3, loss 2\n"
    )
    with Progress("reading", unit="row", every=0.0) as line:
        line.advance(1000)
    assert capsys.readouterr().err == "reading: row 1000\n"


@pytest.mark.needs_extras
def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    work()
    assert "fit: 100%" in terminal.getvalue()
    assert "loss 2" in terminal.getvalue()


@pytest.mark.needs_extras
def test_a_bar_without_a_total_counts_in_words(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("fit full, K = 2", unit="iteration") as line:
        line.advance(84, note="NLL 4.155")
    last = terminal.getvalue().rstrip().split("\r")[-1]
    assert last.startswith("fit full, K = 2: iteration 84 [00:")
    assert " iteration/s, NLL 4.155]" in last or "?" in last


def test_a_terminal_without_tqdm_gets_plain_lines(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    work(every=0.0)
    assert terminal.getvalue().count("\n") == 3


def test_there_may_be_no_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    work(every=0.0)
