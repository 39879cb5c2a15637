"""The report and the documentation's tables are built of result files, and of nothing else."""

from common.start import run_script

import re
import shutil
import sys
from pathlib import Path

import pypdf
import pytest
import typst

from common.config import UserError
from experiments import report, tables
from experiments.runs import RESULTS, ROOT, digests, read_results, write_results

TOTYPST = '#import "numbers.typ": *\n'


@pytest.fixture
def results(tmp_path) -> Path:
    """A copy of the result files that a test may change, as if all were of the released weights."""
    folder = Path(shutil.copytree(RESULTS, tmp_path / "results"))
    for file in folder.glob("*.json"):
        content = read_results(file)
        if "weights" in content:
            write_results(file, content | {"weights": digests(*content["weights"])})
    return folder


def build(monkeypatch, capsys, results: Path) -> tuple[int, str, Path]:
    """Build the report within this process: exit code, stderr and the PDF's path."""
    pdf = results.parent / "report.pdf"
    options = ("--results", results, "--build", results.parent / "build", "--pdf", pdf)
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, options)])
    capsys.readouterr()
    try:
        run_script(report.main)
        code = 0
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err, pdf


def text_of(pdf: Path) -> str:
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in pypdf.PdfReader(pdf).pages))


def test_the_report_is_built(monkeypatch, capsys, results):
    """The same files give the same bytes, and a number that changes in a file changes in the text."""
    code, errors, pdf = build(monkeypatch, capsys, results)
    assert code == 0, errors
    first, text = pdf.read_bytes(), text_of(pdf)
    assert len(first) < 4e6 and 10 <= len(pypdf.PdfReader(pdf).pages) <= 20
    for name in ("generator", "discriminator", "critic", "dann", "ddpm"):
        printed = (ROOT / "tests" / "printed" / f"{name}.txt").read_text().split("\n")
        assert re.sub(r"\s+", "", printed[2]) in re.sub(r"\s+", "", text)

    assert build(monkeypatch, capsys, results)[0] == 0 and pdf.read_bytes() == first
    content = read_results(results / "headline.json")
    content["faces"]["dcgan"]["fid"] = 123.44
    write_results(results / "headline.json", content)
    monkeypatch.setattr(report.figures, "draw_all", lambda *_: None)  # those of the first build serve
    assert build(monkeypatch, capsys, results)[0] == 0
    assert "123.4" in text_of(pdf) and "123.4" not in text


def test_results_are_of_the_released_weights():
    report.read_all(RESULTS)


@pytest.mark.parametrize("name", ["headline", "p1_wgan", "p3_ladder"])
def test_a_missing_file_stops_the_build(monkeypatch, capsys, results, name):
    (results / f"{name}.json").unlink()
    code, errors, pdf = build(monkeypatch, capsys, results)
    command = report.MADE_BY[name]
    assert (code, errors) == (2, f"report.py: error: {results / name}.json is missing, run: {command}\n")
    assert not pdf.exists()


@pytest.mark.parametrize("name", ["headline", "p1_figures", "p3_features"])
def test_results_of_other_weights_stop_the_build(monkeypatch, capsys, results, name):
    content = read_results(results / f"{name}.json")
    network = next(iter(content["weights"]))
    content["weights"][network] = "0" * 64
    write_results(results / f"{name}.json", content)
    code, errors, pdf = build(monkeypatch, capsys, results)
    assert code == 2 and f"{name}.json is of other weights than {network}.safetensors, run: " in errors
    assert not pdf.exists()


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ("fixed(0.25)", "0.2"),  # a tie goes to the even digit, as in Python
        ("fixed(0.75)", "0.8"),
        ("fixed(-1.04)", "−1.0"),
        ("fixed(-0.04)", "0.0"),
        ("fixed(26.055249)", "26.1"),
        ("fixed(7)", "7.0"),
        ("fixed(2.5, digits: 0)", "2"),
        ("fixed(0.0042, digits: 4)", "0.0042"),
        ("count(999)", "999"),
        ("count(14472448)", "14,472,448"),
        ("millions(4882944)", "4.9"),
        ("percent(0.75)", "75.0"),
        ("percent((0.7, 0.8))", "75.0 ± 7.1"),
        ("fixed(mean((1, 2, 6)))", "3.0"),
        ("fixed(deviation((1, 3)), digits: 3)", "1.414"),
        ("fixed(rank-correlation((1, 2, 3), (10, 20, 15)))", "0.5"),
        ("fixed(rank-correlation((1, 2, 2), (3, 1, 1)))", "−1.0"),
    ],
)
def test_numbers_as_text(tmp_path, call, shown):
    shutil.copy(ROOT / "report" / "numbers.typ", tmp_path)
    (tmp_path / "x.typ").write_text(f'{TOTYPST}#assert.eq({call}, "{shown}")')
    assert typst.compile(tmp_path / "x.typ", root=tmp_path)


def test_mistakes_in_order(tmp_path):
    shutil.copy(ROOT / "report" / "numbers.typ", tmp_path)
    (tmp_path / "x.typ").write_text(
        f"{TOTYPST}#assert.eq(mistakes(((9, 1, 0), (0, 9, 0), (3, 1, 9))), ((3, 2, 0), (1, 0, 1), (1, 2, 1)))"
    )
    assert typst.compile(tmp_path / "x.typ", root=tmp_path)


def test_the_documentation_has_todays_tables():
    for document in tables.DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert tables.with_tables(text, RESULTS) == text, "run: python3 -m experiments.tables"


def test_tables_between_marks(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "TABLES", {"headline": lambda folder: "1", "bench": lambda folder: "2"})
    text = "a\n<!-- headline -->\nold\n<!-- /headline -->\nb\n<!-- bench -->\nold\n\n<!-- /bench -->\n"
    made = "a\n<!-- headline -->\n1\n<!-- /headline -->\nb\n<!-- bench -->\n2\n<!-- /bench -->\n"
    assert tables.with_tables(text, tmp_path) == made


@pytest.mark.parametrize(("make", "name"), [(tables.headline, "headline"), (tables.benchmark, "bench")])
def test_a_table_needs_its_file(tmp_path, make, name):
    with pytest.raises(UserError, match=f"{name}.json is missing"):
        make(tmp_path)
