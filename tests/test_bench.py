"""The benchmark: its arithmetic against closed forms, and rows of it with tiny budgets."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import p1_dcgan_train
import p1_wgan_train
import sampling.digits
import sampling.faces
import training.run
from benchmarks import bench, measure, plain, plain_p1, plain_p2, plain_p3
from benchmarks.measure import count_flops, matrix_peak
from benchmarks.plain_fid import frechet_distance as plain_frechet_distance
from common import small_maps
from common.checkpoint import load_weights
from common.config import UserError, parse_config
from evaluation.distances import frechet_distance
from models.ddpm import ContextUnet
from models.diffusion import guided_denoiser


def test_a_row_is_measured_and_shown(inside, builtin, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = tmp_path / "new" / "bench.json"
    options = ("--data", builtin, "--only", "faces", "--faces", 1, "--peak-seconds", 0, "--repeats", 1)
    code, output, errors = inside("benchmarks.bench", *options, "--results", file)
    assert code == 0, errors
    content = json.loads(file.read_text())
    assert str(tmp_path) not in file.read_text()  # nor where the file was written
    assert content["data"] == str(builtin) and f"Data: {builtin}. 1 measurements" in output
    assert content["machine"]["torch"] == torch.__version__ and content["machine"]["threads"] >= 1
    faces = content["rows"]["faces"]
    assert list(content["rows"]) == ["faces"] and faces["order"] == ["plain", "ours"]
    (line,) = faces["lines"]
    assert line["ratio"] == pytest.approx(line["plain"] / line["ours"])
    limit = line["limit"]
    # The generator's five transposed convolutions: 2 x inputs x outputs x 16 at every input pixel.
    layers = ((100, 1024, 1), (1024, 512, 4), (512, 256, 8), (256, 128, 16), (128, 3, 32))
    flops = 50 * sum(2 * i * o * 16 * side**2 for i, o, side in layers)  # one face, padded to 50
    assert limit["flops_per_image"] == flops and limit["flops_per_second"] == pytest.approx(flops / line["ours"])
    assert limit["dtype"] == "float32" and limit["peak_flops_per_second"] > limit["flops_per_second"]
    assert limit["share"] == pytest.approx(limit["flops_per_second"] / limit["peak_flops_per_second"])
    assert output.splitlines()[-1].startswith("| 1 faces | ") and output.count("± 0 s") == 2
    for arm in faces["arms"].values():
        assert arm["s"]["values"] == [arm["s"]["median"]] and 50 < arm["MB"]["median"] < 2000


def test_a_trainer_is_measured_as_it_is(builtin, environment, tmp_path, monkeypatch):
    monkeypatch.setitem(bench.TRAININGS, "dann", bench.TRAININGS["dann"]._replace(batch_size=8, released=(8, 20, 3)))
    config = bench.Config(images=16)
    row = bench.training_row(bench.Bench(config, builtin, tmp_path, environment), "dann")
    assert list(row.arms) == ["plain", "ours", "released"]
    kept = tmp_path / "kept"
    monkeypatch.setattr(bench.shutil, "rmtree", lambda folder: folder.rename(kept))
    assert row.arms["released"]()["images/s"] > 0
    lines = [json.loads(line) for line in (kept / "metrics.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [16, 32, 32]  # warm-up, measured, and the scores at the end
    assert json.loads((kept / "config.json").read_text())["recipe"] == "svhn"


@pytest.mark.parametrize("name", list(bench.CHANGES))
def test_a_change_is_undone_in_the_scripts_themselves(name, inside, builtin, tmp_path, weights, monkeypatch):
    """What stands in for each change is what the script then runs, and without it the script runs something else."""
    used: set[str] = set()

    def noting(change, function):
        return lambda *arguments, **options: used.add(change) or function(*arguments, **options)

    for change, (place, attribute, other) in measure.CHANGES.items():
        if callable(other):
            monkeypatch.setitem(measure.CHANGES, change, (place, attribute, noting(change, other)))
    product, to_device = small_maps.patch_product, nn.Module.to
    monkeypatch.setattr(small_maps, "patch_product", noting("with products", product))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(sampling.faces.with_fresh_batch_norm.__wrapped__, "__defaults__", (1, 8))
    monkeypatch.setattr(training.run, "save_checkpoint", lambda path, state: None)

    def to(network, *arguments, **options):
        if options["memory_format"] == torch.contiguous_format:
            used.add("channels last")
        return to_device(network, *arguments, **options)

    monkeypatch.setattr(nn.Module, "to", to)

    def run(known, module, *arguments):
        del known
        used.clear()
        code, _, errors = inside(f"benchmarks.{module}", *arguments)
        assert code == 0, errors
        return {"s": 1.0, "MB": 1.0}

    monkeypatch.setattr(bench, "run_module", run)
    if name == "digits":
        monkeypatch.setattr(sampling.digits.draw_digits.__wrapped__, "__defaults__", (10, 0, None))
        original = bench.without

        def without(known, change, command):
            return original(known, change, (*command, "--weights", weights["unet"], "--steps", 1))

        monkeypatch.setattr(bench, "without", without)
    else:
        small = bench.TRAININGS[name].released and (4, 1, 1)
        monkeypatch.setitem(bench.TRAININGS, name, bench.TRAININGS[name]._replace(batch_size=4, released=small))
    row = bench.make_row(bench.Bench(bench.Config(images=1, per_class=1), builtin, tmp_path, {}), f"changes-{name}")
    assert [line.arm for line in row.lines] == ["nothing"] * len(bench.CHANGES[name])
    for change, measured in row.arms.items():
        assert measured()
        if name == "dcgan":
            assert ("with products" in used) == (change not in ("products", "bfloat16"))
        assert used - {"with products"} == ({change} & {*measure.CHANGES} - {"nothing", "products"})


def test_two_processes_share_the_batch_and_the_threads(builtin, environment, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setitem(bench.TRAININGS, "dann", bench.TRAININGS["dann"]._replace(batch_size=8, released=(8, 20, 3)))
    kept, commands = tmp_path / "kept", []
    monkeypatch.setattr(bench.shutil, "rmtree", lambda folder: folder.rename(kept))
    original = bench.run

    def run(known, *command, environment=None):
        commands.append((command, environment))
        return original(known, *command, environment=environment)

    monkeypatch.setattr(bench, "run", run)
    row = bench.processes_row(bench.Bench(bench.Config(images=8), builtin, tmp_path, environment), "dann")
    assert row.arms["2"]()["images/s"] > 0
    ((command, used),) = commands
    assert "--nproc-per-node=2" in command and used["OMP_NUM_THREADS"] == "1"
    assert json.loads((kept / "config.json").read_text())["batch_size"] == 8
    assert [(line.arm, line.beside) for line in row.lines] == [("2", "1")]


def test_two_passes_predict_what_the_shared_encoder_does(weights):
    network = ContextUnet()
    load_weights(network.eval(), weights["unet"])
    labels, images = torch.tensor([3, 7]), torch.randn(2, 3, 28, 28)
    calls = []
    encode = network.encode
    network.encode = lambda x: calls.append(len(x)) or encode(x)
    with torch.no_grad():
        for time, count in ((300, 2), (60, 1)):  # within the interval of guidance, and outside it
            found = []
            for make in (guided_denoiser, measure.denoiser_of_two_passes):
                del calls[:]
                found.append(make(network, labels, 2.0, (0.2, 0.8))(images, time))
            assert len(calls) == count
            torch.testing.assert_close(*found)
            assert found[0].std() > 0


def test_changes_have_a_table_of_their_own():
    row = bench.Row({}, [bench.Line("training: fused Adam", "images/s", "nothing", "fused Adam")], {})
    arms = {name: {"images/s": bench.summary([rate])} for name, rate in (("nothing", 60.0), ("fused Adam", 50.0))}
    found = bench.finished(row, {"arms": arms}, lambda dtype: 1.0)
    content = {"machine": bench.machine(), "data": "none", "config": {"repeats": 1}, "rows": {"changes-dcgan": found}}
    assert bench.show(content).splitlines()[2:] == [
        "| what was changed | without | with | better |",
        "| --- | --- | --- | --- |",
        "| training: fused Adam | 50 ± 0 images/s | 60 ± 0 images/s | 1.2 × |",
    ]


def test_loading_starts_with_an_empty_cache_and_then_with_a_filled_one(tmp_path, monkeypatch):
    def run_module(known, module, *arguments, environment=None):
        if environment:
            monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
        cached = len(list(known.scratch.glob("cache*/*/*.npy")))
        config = parse_config(measure.Config, "", [str(word) for word in arguments])
        return {"s": measure.seconds_to_load(config), "cached": cached}

    monkeypatch.setattr(bench, "run_module", run_module)
    row = bench.loading_row(bench.Bench(bench.Config(loading_images=2), tmp_path, tmp_path, {}), 10)
    assert len(list(tmp_path.glob("*/synthetic/*.png"))) == 20
    found = bench.alternate(row.arms, 2, lambda text: None)
    assert found["order"] == ["plain", "cold", "warm"] * 2
    assert [found["arms"][arm]["cached"]["values"] for arm in row.arms] == [[0, 1], [0, 0], [1, 1]]


def test_the_built_in_data_stand_for_missing_ones_and_this_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    monkeypatch.setattr(bench, "run", lambda known, *command: made.append(command))
    known = bench.Bench(bench.Config(), tmp_path, tmp_path / "scratch", {})
    data, said = bench.find_data(known)
    assert made[0][1:] == ("prepare_data.py", "--builtin", data) and said == "built-in (hw2_data is missing)"
    (tmp_path / "hw2_data").mkdir()
    assert bench.find_data(known) == (tmp_path / "hw2_data", "hw2_data") and len(made) == 1


def test_released_recipes_are_measured_in_their_own_batches():
    for spec in bench.TRAININGS.values():
        batch_size, *_ = spec.released or (spec.batch_size,)
        assert f"batch_size: int = option({batch_size}, " in (bench.ROOT / spec.script).read_text()
    config = p1_dcgan_train.Config()  # every step of which is the same work
    assert config.r1_weight == config.r2_weight == 0


def test_the_plain_critic_steps_as_often_as_the_original_recipe():
    assert p1_wgan_train.ORIGINAL["critic_steps"] == plain_p1.CRITIC_STEPS


def test_a_profile_knows_what_the_time_goes_into():
    a, many, norm = torch.ones(1000, 1000), torch.ones(30_000_000, dtype=torch.bfloat16), torch.nn.BatchNorm2d(1000)
    batch = torch.ones(100, 1000, 10, 10)
    cases = {
        "convolutions and products": lambda: a @ a,
        "copies and casts": lambda: many.float(),
        "BatchNorm": lambda: norm(batch),
        "optimiser and averaging": lambda: many.lerp_(many, 0.5),
        "other": lambda: many.exp_(),
    }
    for kind, work in cases.items():
        shares = measure.shares_of_time(lambda work=work: [work() for _ in range(3)])
        assert list(shares) == list(cases) and sum(shares.values()) == pytest.approx(1)
        assert shares[kind] == max(shares.values()) > 0.6, (kind, shares)


def test_a_training_is_profiled_and_shown(builtin, environment, tmp_path, monkeypatch):
    monkeypatch.setitem(bench.TRAININGS, "dann", bench.TRAININGS["dann"]._replace(batch_size=8))
    row = bench.make_row(bench.Bench(bench.Config(images=16), builtin, tmp_path, environment), "profile-dann")
    found = bench.finished(row, bench.alternate(row.arms, row.repeats, lambda text: None), lambda dtype: 1.0)
    shares = {kind: summary["median"] for kind, summary in found["arms"]["ours"].items()}
    assert row.repeats == 1 and sum(shares.values()) == pytest.approx(1) and not any(tmp_path.rglob("weights*"))
    content = {"machine": bench.machine(), "data": "here", "config": {"repeats": 3}, "rows": {"profile-dann": found}}
    assert bench.show(content).splitlines()[-1].startswith("| DANN training | ")


def test_sides_are_measured_in_turn():
    turns, said = [], []

    def arm(name, values):
        values = iter(values)

        def measure():
            turns.append(name)
            return {"s": next(values)}

        return measure

    found = bench.alternate(
        {"plain": arm("plain", [8.0, 4.0, 5.0]), "ours": arm("ours", [1.0, 2.0, 2.5])}, 3, said.append
    )
    assert turns == found["order"] == ["plain", "ours"] * 3 and len(said) == 6
    assert found["arms"]["plain"]["s"] == {"values": [8.0, 4.0, 5.0], "median": 5.0, "spread": 2.0}
    assert found["arms"]["ours"]["s"] == {"values": [1.0, 2.0, 2.5], "median": 2.0, "spread": 0.75}
    row = bench.Row({}, [bench.Line("title", "s")], {"ours": lambda: 3e9}, "bfloat16", 10)
    (line,) = bench.finished(row, found, {"bfloat16": 6e10}.__getitem__)["lines"]
    assert line["ratio"] == 2.5 and line["limit"]["flops_per_second"] == 1.5e10 and line["limit"]["share"] == 0.25


def test_ratios_are_above_one_where_ours_is_better():
    assert bench.times_better(40.0, 120.0, "images/s") == 3
    assert bench.times_better(40.0, 10.0, "s") == bench.times_better(40.0, 10.0, "MB") == 4
    assert bench.times_better(40.0, 40.0, "FID") is None


def test_steps_that_were_not_taken_are_added():
    # 3 s to start, 22 steps of 0.5 s, 1 s to save: ten batches of 600 steps take 3 + 10 (300 + 1).
    assert bench.extrapolated(3 + 22 * 0.5 + 1, 0.5, 22, 1, 10) == pytest.approx(3 + 10 * (300 + 1))


def test_the_rate_of_a_training_leaves_its_start_and_scores_out(tmp_path):
    lines = [(100, 1.0), (200, 50.0), (200, 0.0), (300, 100.0)]  # 2 s and 1 s for a hundred images each
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps({"images": n, "images_per_second": r}) + "\n" for n, r in lines))
    assert bench.logged_rate(file) == pytest.approx(200 / 3)


def test_growth_is_one_where_seconds_are_in_proportion():
    def row(seconds, megabytes):
        return {"arms": {"cold": {"s": {"median": seconds}, "MB": {"median": megabytes}}}}

    assert bench.growth(row(0.5, 100), row(5.0, 109), 10, 900, "cold") == {
        "exponent": pytest.approx(1),
        "bytes_per_image": pytest.approx(10_000),
    }


def test_peak_memory_is_the_command_s_own(environment, tmp_path):
    arguments = (bench.Bench(bench.Config(), tmp_path, tmp_path, environment), sys.executable, "-c")
    small, large = (bench.run(*arguments, f"print(len(b'x' * ({n} << 20)))") for n in (1, 200))
    assert int(large[0]) == 200 << 20
    # This process, whose memory must not count, has more than the small one by far.
    assert small[1]["MB"] < 50 and large[1]["MB"] - small[1]["MB"] == pytest.approx((199 << 20) / 1e6, abs=5)
    with pytest.raises(UserError, match="failed with exit code 3: no more"):
        bench.run(*arguments, "import sys; print('no more', file=sys.stderr); sys.exit(3)")


def is_running(pid):
    """Whether there is such a process, one that has ended but nobody has asked about not counted."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True)
    return found.stdout.strip()[:1] not in ("", "Z")


def test_an_interrupted_benchmark_leaves_no_process(environment, tmp_path, monkeypatch):
    started = tmp_path / "started"

    def interrupted(process):
        while not started.exists() or not started.read_text():
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.subprocess.Popen, "communicate", interrupted)
    code = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        bench.run(bench.Bench(bench.Config(), tmp_path, tmp_path, environment), sys.executable, "-c", code)
    monkeypatch.undo()
    end = time.monotonic() + 10
    while is_running(int(started.read_text())):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_flops_are_those_of_the_closed_form():
    layer, images = nn.Conv2d(3, 8, 5, bias=False), torch.randn(4, 3, 12, 12)
    forward = 2 * 4 * 8 * 8 * 8 * 3 * 25  # 2 x batch x output (8, 8, 8) x kernel (3, 5, 5)
    assert count_flops(lambda: layer(images)) == forward
    assert count_flops(lambda: layer(images).sum().backward()) == 2 * forward  # the weights' gradient
    linear = nn.Linear(7, 11)
    assert count_flops(lambda: linear(torch.randn(5, 7))) == 2 * 5 * 7 * 11

    def penalty():
        inputs = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(inputs).square().sum(), inputs, create_graph=True)
        gradient.square().sum().backward()

    assert count_flops(penalty) > 2 * forward


def test_the_best_matrix_product_is_not_faster_than_its_flops_allow():
    assert 1e7 < matrix_peak(torch.float32, torch.device("cpu"), 0, (64, 128)) < 1e16


@pytest.mark.parametrize("part", ["dcgan", "wgan"])
def test_the_plain_gans_train(part, builtin):
    config = plain_p1.Config(data=builtin / "face" / "train", batch_size=2, warmup=0, steps=1)
    assert getattr(plain_p1, f"train_{part}")(config) > 0


def test_the_plain_digits_train_and_are_drawn(builtin, tmp_path, weights):
    mnistm = builtin / "digits" / "mnistm"
    assert plain_p2.train(plain_p2.Config(data=mnistm, batch_size=2, warmup=1, steps=1)) > 0
    found = plain_p2.draw(plain_p2.Config(out_dir=tmp_path, weights=weights["unet"], batch_size=2, warmup=1, steps=2))
    assert found["steps"] == 3 and found["step"] > 0 and len(os.listdir(tmp_path)) == 2


def test_the_plain_labels_train_and_are_written(builtin, tmp_path, weights):
    mnistm, usps = (builtin / "digits" / name for name in ("mnistm", "usps"))
    assert plain_p3.train(plain_p3.Config(source=mnistm, target=usps, batch_size=4, warmup=1, steps=2)) > 0
    options = {"image_dir": usps / "data", "out_csv": tmp_path / "out.csv", "weights": weights["dann"]}
    assert plain_p3.write_labels(plain_p3.Config(part="labels", **options)) == 40
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[0] == "image_name,label" and len(rows) == 41


def test_a_batch_that_cannot_be_filled_is_refused(builtin):
    with pytest.raises(UserError, match="holds 15 training images, fewer than a batch of 16"):
        plain.loader(sorted((builtin / "face" / "train").iterdir()), 16)


def test_both_fids_are_equal():
    random = torch.Generator().manual_seed(0)
    first, second = (torch.randn(40, 8, generator=random).numpy().astype(float) for _ in range(2))
    moments = [
        part for features in (first, second) for part in (features.mean(0), torch.tensor(features.T).cov().numpy())
    ]
    assert plain_frechet_distance(*moments) == pytest.approx(frechet_distance(first, second), abs=1e-8)


def test_rows_are_chosen_by_name(refused_inside, tmp_path):
    assert bench.chosen_rows("start, dcgan") == ["dcgan", "start-1", "start-2", "start-3"]
    assert bench.chosen_rows("") == bench.ROWS
    assert "'speed' is not one of dcgan, wgan" in refused_inside("benchmarks.bench", "--only", "speed")
    assert "none is missing" in refused_inside("benchmarks.bench", "--data", tmp_path / "none")


def test_rows_measured_alike_stay():
    machine = {"cpu": "one", "load": 0.1}
    earlier = {"machine": machine, "data": "here", "config": {"repeats": 3}, "rows": {"fid": 1, "dann": 2}}
    now = {"machine": machine | {"load": 0.4}, "data": "here", "config": {"repeats": 3}}
    assert bench.kept_rows(earlier, now, ["dann"]) == {"fid": 1}
    for other in ({"machine": {"cpu": "two", "load": 0.1}}, {"data": "there"}, {"config": {"repeats": 2}}):
        assert bench.kept_rows(earlier, now | other, ["dann"]) == {}
    assert bench.kept_rows({}, now, ["dann"]) == {}
