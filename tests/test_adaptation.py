"""Views of an image, and predictions averaged over them."""

import torch

import sampling.labels
from common.device import generator
from common.streams import Stream
from models.dann import DANN
from sampling.labels import (
    KEEPING_COLORS,
    VIEWS,
    mean_probabilities,
    network_input,
    predict,
    probabilities,
    random_views,
)


class Recorder(torch.nn.Module):
    """Keeps what it sees; its class is whether the image's first pixel is positive."""

    def forward(self, images):
        self.seen = images
        logits = torch.zeros(len(images), 10)
        logits[:, 0] = 4 * images[:, 0, 0, 0]
        return logits, None


def test_views_are_shifts_and_inversions():
    images = torch.rand(2, 3, 28, 28) * 2 - 1
    network = Recorder()
    found = probabilities(network, images, False, VIEWS)
    views = network.seen.split(2)
    assert VIEWS[0] == (0, 0, 1) and len(set(VIEWS)) == len(views) == 18
    for (right, down, sign), seen in zip(VIEWS, views, strict=True):
        moved = images.roll((down, right), (2, 3))
        torch.testing.assert_close(seen[:, :, 1:-1, 1:-1], sign * moved[:, :, 1:-1, 1:-1])
    # Moved to the right, the left edge is seen twice.
    torch.testing.assert_close(views[VIEWS.index((1, 0, 1))][:, :, :, 0], images[:, :, :, 0])
    expected = torch.stack([Recorder()(seen)[0].softmax(1) for seen in views]).mean(0)
    torch.testing.assert_close(found, expected)


def test_random_views():
    assert random_views(1, 9, Stream(generator(0), 8)) == VIEWS[:1]
    for among in (9, 18):
        drawn = [tuple(random_views(2, among, Stream(generator(seed), 8))) for seed in range(200)]
        assert all(len(set(views)) == 2 for views in drawn)
        assert {view for views in drawn for view in views} == set(VIEWS[:among])
    assert [sign for *_, sign in VIEWS] == [1] * KEEPING_COLORS + [-1] * KEEPING_COLORS


def test_labels_are_of_the_mean_over_views(monkeypatch):
    monkeypatch.setattr(sampling.labels, "BATCH", 10)
    torch.manual_seed(0)
    network = DANN().eval()
    digits = torch.nn.functional.interpolate(torch.rand(23, 3, 4, 4), size=28).mul(255).to(torch.uint8)
    images = digits.float() / 127.5 - 1
    with torch.no_grad():  # so that images and not biases decide
        network.task_classifier[4].bias -= network(network_input(images, True))[0].mean(0)
        expected = {views: probabilities(network, images, True, VIEWS[:views]) for views in (1, 18)}
    for views, means in expected.items():
        torch.testing.assert_close(mean_probabilities(network, digits, True, views), means, rtol=1e-4, atol=1e-5)
        assert predict(network, digits, True, views).tolist() == means.argmax(1).tolist()
        assert len(means.argmax(1).unique()) > 1
    assert not torch.equal(expected[1].argmax(1), expected[18].argmax(1))
