"""Result files as the experiments write them, from their own tables of rows, but with numbers drawn by lot."""

import random
from pathlib import Path
from typing import Any

import torch

from common.images import save_image
from experiments import headline, p1, p2, p3
from experiments.runs import write_results

# Sheets of the sizes that the experiments draw: height and width.
SHEETS = {
    "headline_faces": (196, 790),
    "headline_digits": (172, 1158),
    "headline_labels": (156, 1196),
    "p1_first32_dcgan": (262, 526),
    "p1_first32_wgan": (262, 526),
    "p1_interpolation": (262, 658),
    "p1_nearest": (328, 526),
    "p1_missed": (262, 526),
    **{f"p1_lesson_{name}": (64, 526) for name in p1.LESSONS},
    **{f"p1_{part}_{shown}": (64, 526) for part in ("dcgan", "wgan") for shown in ("plain", "improved")},
    **{f"p1_collapse_{number}": (130, 526) for number in range(2)},
    "p2_grid": (578, 578),
    "p2_reverse": (112, 682),
    "p2_reversed_time": (56, 578),
    "p2_six_steps": (56, 578),
    "p3_hardest_svhn": (346, 578),
    "p3_hardest_usps": (346, 578),
}


def fabricate(folder: Path, points: int = 1000) -> None:
    """Write every result file of the report into `folder`; `points` are those of a domain in each t-SNE map."""
    draw = random.Random(0)
    for number, (name, (height, width)) in enumerate(SHEETS.items()):
        image = torch.arange(height * width, dtype=torch.float).view(1, height, width) * (number + 1) / 997
        save_image(folder / f"{name}.png", (image.expand(3, -1, -1) % 256).to(torch.uint8))

    def near(low: float, high: float) -> float:
        return draw.uniform(low, high)

    def scores(fid: float) -> dict[str, Any]:
        floor = {"images": 1000, "fid": near(16, 18), "kid_x1000": near(0, 0.1)}
        return {"images": 1000, "reference_images": 1500, "fid": fid, "kid_x1000": 0.7 * fid, "floor": floor}

    def labels(images: int, right: float) -> dict[str, Any]:
        each = images // 10
        confusion = [[0] * 10 for _ in range(10)]
        for digit in range(10):
            confusion[digit][digit] = round(each * right)
            confusion[digit][(digit + 3) % 10] += each - round(each * right)
        shares = [confusion[digit][digit] / each for digit in range(10)]
        return {
            "images": 10 * each,
            "accuracy": sum(shares) / 10,
            "class_accuracy": shares,
            "class_images": [each] * 10,
            "confusion": confusion,
        }

    def quality(name: str, real: float) -> dict[str, Any]:
        spread = {"generated": [near(8, 9) for _ in range(10)], "real": [near(9, 10) for _ in range(10)]}
        nearest = {"generated": near(30, 31), "real": near(33, 34)}
        found = scores(near(60, 80)) | {"class_diversity": spread, "nearest_training_image": nearest}
        return found | {"classifier": name, "real_accuracy": {name: real}, "reference_images": 2000}

    faces = {"face_rate": 0.944, "faces_found": {"none": 40, "one": 944, "several": 16}}
    content: dict[str, Any] = {
        "checkpoints": headline.checkpoints(),
        "data": headline.CITED["course"]["data"] | {"face": {"train": 7500, "val": 1500}},
        "real_face_rate": 0.934,
        "faces": {"dcgan": scores(55.6) | faces, "wgan": scores(70.1) | faces | {"face_rate": 0.8}},
        "digits": {
            "course": labels(1000, 0.96) | quality("Classifier.pth", 0.95),
            "judge": labels(1000, 0.97) | quality("p2_judge.safetensors", 0.99),
        },
        "labels": {"svhn": labels(1600, 0.83), "usps": labels(1480, 0.98)},
    }
    write_results(folder / "headline.json", content)

    for part in ("dcgan", "wgan"):
        rows = {
            name: {
                "settings": p1.settings(part, options),
                "runs": [{"fid": [near(150, 200), near(70, 140)], "kid_x1000": [near(90, 99)] * 2}],
            }
            for name, options in p1.ROWS[part].items()
        }
        write_results(folder / f"p1_{part}.json", {"images": 64_000, "rows": rows})
    steps = range(50)
    logged = {name: [near(-1, 1) for _ in steps] for name in ("logit_real", "logit_fake", "loss_g")}
    accuracies = {name: [near(0.7, 0.9) for _ in steps] for name in p1.LESSONS}
    write_results(folder / "p1_lesson.json", {name: logged | {"accuracy_d": a} for name, a in accuracies.items()})
    trained = {name: content["checkpoints"][f"p1_{name}"]["trained_images"] for name in ("dcgan", "wgan")}
    images = [25_000 * (i + 1) for i in range(20)]
    curves = {
        name: {"held_out": 1000, "score_count": 1000, "batch_size": 64, "trained_images": trained[name]}
        | {"fid": [[i, 60 + 3e6 / i + near(0, 5)] for i in images], "kid_x1000": [[i, near(40, 60)] for i in images]}
        | {"train": [[i, near(1, 2)] for i in images], "held_out_faces": [[i, near(-1, 1)] for i in images]}
        for name in ("dcgan", "wgan")
    }
    write_results(folder / "p1_curve.json", curves)
    settings = {name: p1.settings(name, ()) for name in ("dcgan", "wgan")}
    rows = {
        "first": {"method": "dcgan", "start": "", "images": [0, 3_000_000], "fid": [[i, 1e8 / i] for i in images]},
        "last": {"method": "dcgan", "start": "first", "images": [3_000_000, trained["dcgan"]], "fid": []},
        "critic": {"method": "wgan", "start": "", "images": [0, 500_000], "fid": [[i, 2e8 / i] for i in images]},
    }
    rows = {name: row | {"held_out": 1000, "settings": settings[row["method"]]} for name, row in rows.items()}
    rows["last"]["trained_images"] = trained["dcgan"]
    write_results(folder / "p1_tried.json", {"rows": rows})
    collapse: dict[str, Any] = {
        name: {
            "distance": [[2500 + 5000 * i, near(0.2, 1) if i < 15 else late * near(1, 3)] for i in range(20)],
            "fid": [[100_000, fid]],
        }
        for name, late, fid in (("fast", -1, 320.0), ("default", 1, 90.0))
    }
    collapse |= {"images_per_mean": 5000, "sheets": [75_000, 100_000]}
    write_results(folder / "p1_collapse.json", collapse)
    shown = {name: {"trained_images": images, "sharpness": near(8, 9)} for name, images in trained.items()}
    shown |= {"sharpness_real": 9.6, "faces": 1000, "missed": 56, "shown": 32}
    shown["training"] = {"images": 1500, "fid": 54.5}
    write_results(folder / "p1_figures.json", shown)

    rows = []
    for row in p2.grid():
        share = near(0.9, 0.99) - 0.5 / row[2] + 0.01 * row[3]
        scored = {"judge": share, "course": share - 0.01, "fid": near(70, 90) + 100 / row[2], "fid_floor": 32.0}
        rest = {"kid_x1000": near(20, 40), "diversity": near(0.8, 1), "seconds_per_1000": 4.5 * row[2]}
        rows.append({"row": row, **scored, **rest, "nearest_training_image": {"generated": 30.0, "real": 33.0}})
    trained = content["checkpoints"]["p2_ddpm"]["trained_images"]
    real = {"judge": 0.99, "course": 0.95}
    tradeoff = {"trained_images": str(trained), "per_class": 50, "rows": rows, "real_accuracy": real}
    write_results(folder / "p2_tradeoff.json", tradeoff)

    def run(low: float, high: float) -> dict[str, Any]:
        accuracy = near(low, high)
        measured = {"accuracy": accuracy, "accuracy_of_views": accuracy + 0.005, "best_accuracy_seen": accuracy + 0.01}
        rest = {"val_accuracy": 0.95, "feature_norm": near(15, 50), "loss_domain": near(0.1, 0.6)}
        return measured | rest | {"predictions": [146, *[100] * 9], "agreement": near(0.8, 0.9)}

    for part, seeds in (("bounds", 5), ("collapse", 3), ("ladder", 3), ("recipe", 3)):
        names = p3.rows_of(part)
        table = {
            target: {
                name: {
                    "options": ["--images", "150000"],
                    "runs": [run(i / len(names), (i + 1) / len(names) - 0.02) for _ in range(seeds)],
                }
                for i, name in enumerate(names)
            }
            for target in (("svhn",) if part == "collapse" else p3.TARGETS)
        }
        write_results(folder / f"p3_{part}.json", table)
    for name in ("source only", "DANN"):
        for target in p3.TARGETS:
            flat = {axis: [round(draw.gauss(0, 30), 2) for _ in range(2 * points)] for axis in "xy"}
            classes = {"class": [draw.randrange(10) for _ in range(2 * points)]}
            curves[f"{target}, {name}"] = flat | classes | {"domain": [0] * points + [1] * points}
    write_results(folder / "p3_features.json", {name: flat for name, flat in curves.items() if ", " in name})
    pairs = [{"true": i, "found": i + 1, "count": 20 - i} for i in range(6)]
    mistakes = {
        target: {"images": scored["images"], "pairs": pairs}
        | {"wrong": scored["images"] - sum(row[digit] for digit, row in enumerate(scored["confusion"]))}
        for target, scored in content["labels"].items()
    }
    write_results(folder / "p3_hardest.json", mistakes)
