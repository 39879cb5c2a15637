"""Make the course's data tree of public originals or of your own images; verify a tree.

    python3 prepare_data.py hw2_data                            # fetch the originals into originals/, make all sets
    python3 prepare_data.py hw2_data --sources DIR              # of originals that lie in DIR; fetch what it lacks
    python3 prepare_data.py hw2_data --only svhn --input DIR    # of a folder of your own images, see docs/data.md
    python3 prepare_data.py --verify hw2_data                   # read every image, print a table beside the course's
    python3 prepare_data.py --builtin TREE                      # a small stand-in

Training and test set of each original (CelebA; MNIST over patches of BSDS500; SVHN; USPS) are pooled and split anew
with the course's numbers: 80 % of 80 % of the digits are train, 20 % of 80 % val, the rest is test, with its labels in
test.csv and images in test/; of CelebA, 38,464 faces are train, 2,025 val and another 2,025 test.  The same seed and
originals give the same images, the built-in faces on one kind of CPU.

A set appears whole, with a MANIFEST of counts, means and SHA-256, or not at all, and is never overwritten.  Made again
it takes as long as the first time: it is there already if all splits come out the same, else it is refused.  The
built-in data are for smoke runs and tests only: scikit-learn's digits restyled, and the released DCGAN's faces.
"""

from common.start import run_script

import sys
from dataclasses import dataclass
from pathlib import Path

from common.checkpoint import CHECKPOINTS, load_weights
from common.config import UserError, option, parse_config, warn
from common.files import locked
from data.builtin import restyled
from data.originals import own, public
from data.tree import COURSE, HEADER, SPLITS, Originals, describe, read_manifest, row_of, write_set
from models.dcgan import Generator
from sampling.faces import latents, sample_images


@dataclass(frozen=True)
class Config:
    folder: Path = option(None, "the data tree: to make or to verify")
    only: str = option("", "some of face,mnistm,svhn,usps; without it all four")
    sources: Path = option(Path("originals"), "folder of the originals, laid out as docs/data.md says")
    download: bool = option(True, "fetch the originals that --sources lacks")
    input: str = option("", "folder of your own images of the one set that --only names")
    verify: bool = option(False, "read every image and print a table beside the course's numbers")
    builtin: bool = option(False, "make the sets of the built-in digits and faces")
    count: int = option(1000, "built-in originals of each set; FID needs the two val faces of 40", low=40, high=1797)
    seed: int = option(0, "of the split, of MNIST-M's patches and of the built-in images", low=0)


def verify(root: Path, names: list[str]) -> int:
    """Print a table of the splits under `root`, and on stderr a sentence for each that cannot be used; their number."""
    if not root.is_dir():
        raise UserError(f"{root} is {'not a folder' if root.exists() else 'missing'}")
    print(HEADER)
    unusable = 0
    for name in names:
        course, manifest, seen = COURSE[name], None, {}
        domain = root / course.folder
        for split in SPLITS:
            try:
                manifest = read_manifest(domain) if split == SPLITS[0] else manifest
                if split == "test" and not manifest and not (domain / split).exists():
                    continue  # the course's test.csv is a format sample without images
                found = describe(domain, name, split, seen)
                print(row_of(name, split, found), flush=True)
                if manifest and found["sha256"] != manifest["sha256"][split]:
                    raise UserError(f"{domain}: the {split} split is not what its MANIFEST says, it was changed")
                if found["modes"] != [course.mode]:
                    warn(f"{domain}: the {split} images are {', '.join(found['modes'])}, the course's {course.mode}")
            except UserError as error:
                print(f"prepare_data.py: error: {error}", file=sys.stderr)
                unusable += 1
    return unusable


def originals_of(config: Config, name: str) -> Originals:
    """What the options say that the set `name` is made of."""
    if config.input:
        return own(Path(config.input), name)
    if not config.builtin:
        return public(name, config.sources, config.download, config.seed)
    if name != "face":
        return restyled(name, config.count, config.seed)
    network = Generator()
    load_weights(network, CHECKPOINTS / "p1_dcgan.safetensors")
    latent = latents(config.count, config.seed, first=1_000_000)  # of no face that p1_inference.py draws
    faces = sample_images(network.eval(), latent).permute(0, 2, 3, 1).numpy()
    return Originals(f"{config.count:,} faces by the released DCGAN", config.count, None, lambda index: faces[index])


def make(config: Config, names: list[str]) -> None:
    """Make the sets `names`; those that an interrupted run finished are kept.  Raises UserError if others are there."""
    places = {name: config.folder / COURSE[name].folder for name in names}
    for place in places.values():
        if place.exists() and read_manifest(place) is None:
            raise UserError(f"{place} is there already, without a MANIFEST: choose another folder")
    for name, place in places.items():
        originals = originals_of(config, name)
        with locked(config.folder):
            made = write_set(config.folder, name, originals, config.seed)
        print(f"{place}: {'made' if made else 'there already, made'} of {originals.source}", flush=True)


def main() -> None:
    config = parse_config(Config, __doc__)
    names = [name.strip() for name in config.only.split(",")] if config.only else list(COURSE)
    if unknown := [name for name in names if name not in COURSE]:
        raise UserError(f"--only: {unknown[0]!r} is not one of {', '.join(COURSE)}")
    if config.verify + config.builtin + bool(config.input) > 1:
        raise UserError("give only one of --verify, --builtin and --input")
    if config.input and len(names) != 1:
        raise UserError("--input is of one set: name it, for example --only svhn")
    try:
        if config.verify:
            sys.exit(2 if verify(config.folder, names) else 0)
        make(config, names)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        where = error.filename or config.folder
        raise UserError(f"{where} cannot be read or written: {error.strerror or error}") from None


if __name__ == "__main__":
    run_script(main)
