"""Which images a step sees: every one equally often, the rows of several processes those of one."""

from types import SimpleNamespace

import pytest
import torch
from conftest import random_images

from common.config import UserError
from data.batches import Faces, Images, held_out_indices
from data.reading import fingerprint, to_unit_range

ALL = slice(None)


def place(number: int, batch_size: int, seed: object = 5, rows: slice = ALL) -> SimpleNamespace:
    return SimpleNamespace(number=number, batch_size=batch_size, rows=rows, seed=seed)


def numbered(count: int) -> Images:
    """Images whose pixels and labels say which they are."""
    numbers = torch.arange(count)
    return Images(numbers.to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2), numbers)


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (4, 10), (7, 7), (1, 3)])
def test_every_image_is_visited_equally_often(count, batch):
    """The batches are one stream of permutations, each epoch another; other seeds and streams have other ones."""
    images = numbered(count)
    visits = torch.cat([images.order(place(step, batch)) for step in range(count)])
    assert torch.equal(visits.bincount(minlength=count), torch.full((count,), batch))
    for epoch in visits.split(count):
        assert torch.equal(epoch.sort().values, torch.arange(count))
    if count > 4:
        assert len({tuple(epoch.tolist()) for epoch in visits.split(count)}) == batch
        for other in (images.order(place(0, batch, 6)), images.order(place(0, batch), "target order")):
            assert not torch.equal(other, visits[:batch])


def test_a_batch_depends_on_its_number_alone():
    """Also when steps are asked for in another order, as after --resume, and of two streams in turn."""
    forwards, backwards = numbered(10), numbered(10)
    orders = {step: forwards.order(place(step, 4)) for step in range(20)}
    for step in reversed(range(20)):
        backwards.order(place(step, 3), "other")
        assert torch.equal(backwards.order(place(step, 4)), orders[step])


def test_a_batch_is_images_and_their_labels():
    images = numbered(10)
    pixels, labels = images.batch(place(0, 7))
    assert pixels.shape == (7, 3, 2, 2) and pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[:, 0, 0, 0], to_unit_range(labels))
    parts = [images.batch(place(0, 7, rows=rows)) for rows in (slice(0, 3), slice(3, 7))]
    assert torch.equal(torch.cat([part[0] for part in parts]), pixels)
    assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    assert Images(images.images).batch(place(0, 7))[1] is None


def test_fingerprint_tells_data_apart():
    first = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    prints = [fingerprint(first), fingerprint(first.view(4, 6)), fingerprint(first.flip(0)), fingerprint(first, first)]
    assert len(set(prints)) == 4 and fingerprint(first.clone()) == prints[0]
    images = numbered(3)
    assert Images(images.images).fingerprint != images.fingerprint
    assert Images(images.images, images.labels.float().view(3, 1)).fingerprint != images.fingerprint  # soft labels


def test_held_out_indices():
    training, held_out = held_out_indices(20, 6)
    assert len(training) == 14 and len(held_out) == 6
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(20))
    assert held_out_indices(20, 6)[1].tolist() == held_out.tolist() != list(range(6))
    assert held_out_indices(20, 0)[0].tolist() == list(range(20))
    with pytest.raises(UserError, match="--held-out 20 leaves none of 20 images"):
        held_out_indices(20, 20)


def test_faces(tmp_path):
    """Training sees all but the held-out ones."""
    random_images(tmp_path, 7)
    faces = Faces(tmp_path, 2)
    training, held_out = held_out_indices(7, 2)
    assert len(faces) == 5 and len(faces.held_out) == 2
    everything = Faces(tmp_path, 0)
    assert everything.fingerprint != faces.fingerprint and len(everything.held_out) == 0
    (seen, kept), (both, _) = faces.examples(9), everything.examples(9)
    assert torch.equal(seen, both[training]) and torch.equal(kept, both[held_out])
    batch = faces.batch(place(0, 5))
    assert batch.is_contiguous(memory_format=torch.channels_last) and batch.shape == (5, 3, 64, 64)
    assert torch.equal(batch, seen[Images(torch.zeros(5, 1)).order(place(0, 5))])
