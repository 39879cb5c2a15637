"""The report is built of result files: every number in it comes from them, and a missing one stops the build."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pypdf
import pytest
from fabricated import fabricate

from benchmarks import bench
from common.config import run_script
from experiments import headline, p2, p3, report
from experiments.report_numbers import MADE_BY
from experiments.runs import METHODS, RESULTS, ROOT, percent, read_results

TEXT = (ROOT / "report" / "report.typ").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fabricated")
    fabricate(folder, points=40)
    return folder


@pytest.fixture
def results(fabricated, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(fabricated, tmp_path / "results"))


def build(monkeypatch, capsys, results: Path, figures: bool = True) -> tuple[int, str, Path]:
    """Build the report within this process: exit code, stderr and the PDF's path."""
    pdf = results.parent / "report.pdf"
    options = ("--results", results, "--build", results.parent / "build", "--pdf", pdf)
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, options)])
    if not figures:  # those of an earlier build serve
        monkeypatch.setattr(report.figures, "draw_all", lambda *_: [])
    capsys.readouterr()
    try:
        run_script(report.main)
        code = 0
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err, pdf


def change(file: Path, edit: Any) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def text_of(pdf: Path) -> str:
    pages = pypdf.PdfReader(pdf).pages
    assert 8 <= len(pages) <= 14
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in pages))


def test_the_report_is_built(monkeypatch, capsys, results):
    """Numbers of every section are in the text and change with the result files; the same files give the same bytes."""
    code, errors, pdf = build(monkeypatch, capsys, results)
    assert code == 0, errors
    first, text = pdf.read_bytes(), text_of(pdf)
    content, recipe = (json.loads((results / f"{name}.json").read_text()) for name in ("headline", "p3_recipe"))
    faces, accuracy = content["faces"]["dcgan"], content["digits"]["judge"]["accuracy"]
    runs = recipe["usps"]["the recipe"]["runs"]
    for found in (
        f"FID {faces['fid']:.1f}",
        f"in {percent([faces['face_rate']])} % of",
        f"our judge {percent([accuracy])} %",
        percent([run["accuracy_of_views"] for run in runs]),
        "7,500 training faces instead of 38,464, of which the networks saw 7,500 (A) and 6,500 (B) (1,500",
        f"FID is {content['digits']['judge']['fid']:.1f}; real training digits",  # Typst eats a bare semicolon
        "6,590,211",
        "seeds of the plain recipe (150,000 images each)",
        "a factor of 6.2",  # 67 - 17 over 25 - 17
    ):
        assert found in text, found
    for name in ("Generator", "Discriminator", "Critic", "DANN", "DDPM"):
        printed = (ROOT / "tests" / "printed" / f"{name.lower()}.txt").read_text().split("\n")
        assert re.sub(r"\s+", "", printed[2]) in re.sub(r"\s+", "", text)

    assert build(monkeypatch, capsys, results)[0] == 0 and pdf.read_bytes() == first
    change(results / "headline.json", lambda content: content["faces"]["dcgan"].update(fid=123.44))
    change(results / "p1_curve.json", lambda content: content["wgan"].update(trained_images=7_654))
    assert build(monkeypatch, capsys, results, figures=False)[0] == 0
    for found in ("FID 123.4", "and 7,654 images (B)"):
        assert found in text_of(pdf) and found not in text


@pytest.mark.parametrize(
    ("file", "edit", "named"),
    [
        (
            "p1_dcgan.json",
            lambda content: content["rows"].pop("+ averaged weights"),
            "lacks 'rows > + averaged weights'",
        ),
        ("p3_bounds.json", lambda content: content["usps"].pop("DANN"), "lacks 'usps > DANN'"),
        (
            "p3_ladder.json",
            lambda content: content["svhn"]["+ DANN"]["runs"][1].pop("accuracy"),
            "lacks 'svhn > + DANN > runs > accuracy'",
        ),
        ("headline.json", lambda content: content["faces"].pop("wgan"), "lacks 'faces > wgan'"),
        ("headline.json", lambda content: content["checkpoints"]["p2_ddpm"].update(sha256="0"), "is of other weights"),
        ("p2_tradeoff.json", lambda content: content.update(trained_images="1"), "is of other weights"),
        ("p1_figures.json", lambda content: content["wgan"].update(trained_images=1), "is of other weights"),
        ("p3_hardest.json", lambda content: content["usps"].update(wrong=1), "are of other weights"),
        ("p2_tradeoff.json", lambda content: content["rows"].pop(), "lacks the row"),
        ("p1_lesson.json", lambda content: content["imagenet"].update(accuracy_d=[]), "lacks 'imagenet > accuracy_d'"),
        ("p1_curve.json", lambda content: content.pop("wgan"), "lacks 'wgan'"),
        ("p1_tried.json", lambda content: content["rows"].pop("last"), "is of other weights"),
    ],
)
def test_a_missing_number_stops_the_build(monkeypatch, capsys, results, file, edit, named):
    change(results / file, edit)
    code, errors, pdf = build(monkeypatch, capsys, results)
    assert code == 2 and errors.count("\n") == 1, errors
    assert file in errors and named in errors and "run: python3 " in errors
    assert not pdf.exists()


@pytest.mark.parametrize("name", MADE_BY)
def test_a_missing_file_stops_the_build(monkeypatch, capsys, results, name):
    (results / name).unlink()
    code, errors, pdf = build(monkeypatch, capsys, results)
    assert (code, errors) == (2, f"report.py: error: {results / name} is missing, run: {MADE_BY[name]}\n")
    assert not pdf.exists()


def typed_numbers(text: str) -> list[str]:
    """The lines of a Typst text with digits in them that are no length, code, formula, name or unit."""
    text = re.sub(r"//.*", "", text)
    text = re.sub(r"`[^`]*`|\$[^$]*\$|\"[^\"\s]*\.(?:png|svg|typ|json)\"", "", text)
    text = re.sub(r"\b\d+(\.\d+)?(pt|cm|em|fr|%)", "", text)
    text = re.sub(r"\bp[123]\b[.\w]*(\(\d\))?|p[123]_\w+|\.at\(.*?\)|rgb\(\"#\w+\"\)|luma\(\d+\)|problem \d", "", text)
    text = re.sub(r"× 1000|per 1000|\(2M\)|\(\w+,\) \* \d|columns: 1|wide / 10|\(0, half|len\(\) / 2", "", text)
    return re.findall(r".*\d.*", text)


def test_no_number_is_typed():
    assert not typed_numbers(TEXT)
    for typed in ("a FID of 55.6, which", "#p1.fid_a and 12 % of", "over 3 seeds"):
        assert typed_numbers(TEXT + typed) == [typed.replace("#p1.fid_a", "#")]


def test_the_readme_shows_what_was_measured():
    """Every row of README's table is made of results/headline.json and results/p3_recipe.json."""
    if not (RESULTS / "headline.json").is_file():
        pytest.skip("results/headline.json is not there, run: python3 -m experiments.headline")
    content, recipe = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("headline", "p3_recipe"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in headline.rows(content, recipe):
        assert "| " + " | ".join(row) + " |" in readme
    for path in re.findall(r"results/\w+\.png", readme):
        assert (ROOT / path).is_file()
    for name, notes in headline.checkpoints().items():
        assert content["checkpoints"][name] == notes, f"run: {MADE_BY['headline.json']}"
    data = content["data"]
    course = headline.CITED["course"]["data"]
    for name, split in (("face", "train"), ("svhn", "train")):
        assert f"{data[name][split]:,}" in readme and f"{course[name][split]:,}" in readme


def test_the_readme_names_the_method_that_draws():
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert re.findall(r"`hw2_1.sh` draws by the (\w+)", readme) == [METHODS[headline.GRADED].split()[-1]]


@pytest.mark.parametrize("part", ["bounds", "ladder"])
def test_the_readme_has_the_tables_of_problem_3(part):
    """Line by line what `python3 -m experiments.p3 --part ...` prints."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for line in p3.show(read_results(RESULTS / f"p3_{part}.json"), part).splitlines():
        assert line in readme


def test_the_readme_has_a_part_of_the_tradeoff():
    """Rows of what `python3 -m experiments.p2 --part tradeoff` prints, and what the text says of them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    content = read_results(RESULTS / "p2_tradeoff.json")
    row = re.compile(r"\| (?:(?:dpm|ddim|ancestral) \w+ \| \d|sampler \| steps)")
    shown = [line for line in text.splitlines() if row.match(line)]
    assert len(shown) > 15 and set(shown) <= set(p2.show(content).splitlines())
    readme = re.sub(r"\s+", " ", text)
    rows = {p2.row_of(result): result for result in content["rows"]}
    assert {f"{row['fid_floor']:.1f}" for row in rows.values()} == {re.search(r"floor is ([\d.]+) in", readme)[1]}
    ours, finer, mild = (
        rows[("dpm", "karras", steps, scale, p2.EARLY)] for steps, scale in ((8, 4.0), (10, 4.0), (8, 2.0))
    )
    assert f"the course's classifier reads {100 * mild['course']:.1f} %; 10 calls take" in readme
    assert f"10 calls take {finer['seconds_per_1000']:.0f} s" in readme and finer["seconds_per_1000"] > 90
    assert f"for {ours['fid'] - finer['fid']:.1f} points of FID" in readme
    uniform, karras = (rows[("dpm", spacing, 8, 4.0, p2.EVERYWHERE)]["fid"] for spacing in ("uniform", "karras"))
    assert f"times evenly apart cost {uniform - karras:.1f}." in readme
    converged = [rows[("dpm", "karras", steps, 4.0, p2.EVERYWHERE)]["fid"] for steps in (50, 20)]
    own = rows[("ancestral", "uniform", 600, 4.0, p2.EVERYWHERE)]
    found = "50 calls have {:.1f}, 20 have {:.1f}, and DDPM's own 600 have {:.1f}".format(*converged, own["fid"])
    assert f"{found}; at the same scale those vary less, {own['diversity']:.2f} of real digits" in readme


def test_the_readme_shows_the_benchmark():
    """The machine and the rows of results/bench.json, as benchmarks.bench prints them."""
    lines = bench.show(read_results(RESULTS / "bench.json")).splitlines()
    assert any("1,000 digits" in line for line in lines)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(filter(None, lines)) <= set(readme.splitlines())
    content = read_results(RESULTS / "bench.json")
    digits, ddpm, dcgan, faces = (content["rows"][name]["lines"][0] for name in ("digits", "ddpm", "dcgan", "faces"))
    shares = [f"{line['limit']['share']:.0%}".replace("%", " %") for line in (digits, ddpm, dcgan)]
    products = content["rows"]["profile-dcgan"]["arms"]["ours"]["convolutions and products"]["median"]
    peaks = dcgan["limit"]["peak_flops_per_second"] / faces["limit"]["peak_flops_per_second"]
    readme = re.sub(r"\s+", " ", readme)
    said = "Drawing digits and training diffusion come to {} and {} of it, DCGAN's plain recipe to {}".format(*shares)
    assert f"{said}, and {100 * products:.0f} % of its time goes into convolutions and products" in readme
    assert f"is {peaks:.1f} times float32's here, so most of its {dcgan['ratio']:.1f} times is bfloat16" in readme
    assert f"at most another {1 / dcgan['limit']['share']:.1f} times are left" in readme


def test_the_readme_tells_what_joint_batches_are_worth():
    found = {}
    for part in ("dcgan", "wgan"):
        content = read_results(RESULTS / f"p1_{part}.json")
        found |= {name.strip(" +"): f"{row['runs'][0]['fid'][-1]:.1f}" for name, row in content["rows"].items()}
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert f"After {content['images']:,} images in batches of 64" in readme
    said = f"is {found['joint batches']} with it and {found['flips and translation']} without; of the WGAN"
    said += " with one critic step"
    said += f" (`--part wgan`) {found['1 and joint batches']} and {found['1 critic step']}. "
    said += f"With joint batches its networks can learn faster: {found['1 and joint at 2e-4 and 2e-4']} at 2e-4 both, "
    assert f"{said}{found['1 and joint at 2e-4 and 4e-4']} at 2e-4 and 4e-4 (the default)" in readme
    both = found["joint and relativistic"], found["these two without translation"]
    assert "`--loss relativistic` FID is {} with it and {} without".format(*both) in readme


def test_the_readme_tells_what_guidance_does():
    """Of the digits that hw2_2.sh's sampler draws at three scales, and everywhere in place of its interval."""
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    rows = {p2.row_of(result): result for result in read_results(RESULTS / "p2_tradeoff.json")["rows"]}
    sampler, interval = (p2.DEFAULT.sampler, p2.DEFAULT.spacing, p2.DEFAULT.steps), p2.EARLY
    assert interval == (p2.DEFAULT.guidance_from, p2.DEFAULT.guidance_to)
    low, middle, high = (rows[(*sampler, scale, interval)] for scale in (1.0, 2.0, 4.0))
    read = [f"{100 * row['course']:.1f} %" for row in (low, middle, high)]
    assert "{} at 1, {} at 2 and {} at 4".format(*read) in readme
    varied = [f"{row['diversity']:.2f}" for row in (low, middle, high)]
    assert "their diversity is {}, {} and {} of".format(*varied) in readme
    everywhere = rows[(*sampler, p2.SCALE, p2.EVERYWHERE)]
    assert p2.SCALE == 4 and high["course"] == everywhere["course"]  # "as much is read"
    assert 1 / 9 < 1 - high["seconds_per_1000"] / everywhere["seconds_per_1000"] < 1 / 7 and "an eighth less" in readme
    assert f"FID of 500 digits is {high['fid'] - everywhere['fid']:.1f} higher" in readme


def test_the_readme_compares_labels_at_full_length():
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    rows = read_results(RESULTS / "p3_recipe.json")["usps"]
    found = []
    for name in ("labels where the teacher is sure", "the recipe"):
        runs = rows[name]["runs"]
        found += [
            percent([run["accuracy"] for run in runs]),
            f"{sum(run['agreement'] for run in runs) / len(runs):.3f}",
        ]
    assert "{} % of single views, agreement {}, against {} % and {}".format(*found) in readme


def test_the_readme_tells_of_the_collapse():
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    rows = read_results(RESULTS / "p3_collapse.json")["svhn"]
    for cap in ("0.2", "0.5", "2.0", "8.0"):
        accuracy = percent([run["accuracy"] for run in rows[f"alpha to {cap}"]["runs"]])
        assert f"{accuracy} % with alpha" in readme or f"{accuracy} % up to {cap.removesuffix('.0')}" in readme
    first, last = (rows[f"alpha to {cap}"]["runs"] for cap in ("0.1", "8.0"))
    norms = [sum(run["feature_norm"] for run in runs) / len(runs) for runs in (first, last)]
    assert f"from {norms[0]:.0f} to {norms[1]:.0f}" in readme
    source = [percent([run["val_accuracy"] for run in runs]) for runs in (first, last)]
    assert f"from {source[0]} % to {source[1]} %" in readme
    assert percent([max(run["predictions"]) / sum(run["predictions"]) for run in last]) in readme
