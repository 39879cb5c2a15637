"""The networks: printed trees line by line, and what each of them computes."""

from pathlib import Path

import pytest
import torch
from torch import nn

import models.ddpm
from models.classifier import Classifier
from models.dann import DANN, can_pool_unevenly
from models.dcgan import Critic, Discriminator, Generator, initialize_weights
from models.ddpm import DDPM, ContextUnet, ResidualConvBlock

PRINTED = Path(__file__).resolve().parent / "printed"


@pytest.mark.parametrize("network", [Generator, Discriminator, Critic, DDPM, DANN])
def test_printed_tree(network):
    """Newer versions of PyTorch also print BatchNorm's `bias`, which is there whenever `affine` is."""
    expected = (PRINTED / f"{network.__name__.lower()}.txt").read_text()
    printed = str(network()).replace("affine=True, bias=True", "affine=True")
    assert printed.splitlines() == expected.splitlines()


def test_scores_are_before_the_sigmoid():
    discriminator, critic = Discriminator().eval(), Critic().eval()
    critic.load_state_dict(discriminator.state_dict())  # the same names: the critic lacks nothing but the sigmoid
    images = torch.randn(3, 3, 64, 64)
    logits = discriminator.score(images)
    assert logits.shape == (3,)
    torch.testing.assert_close(logits.sigmoid(), discriminator(images).flatten())
    torch.testing.assert_close(critic.score(images), logits)
    torch.testing.assert_close(critic(images)[:, 0, 0, 0], logits)


def test_initial_weights():
    """Convolutions N(0, 0.02), BatchNorm scales N(1, 0.02), offsets 0; the standard errors are far below 2 %."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(64, 64, 4), nn.ConvTranspose2d(64, 64, 4), nn.BatchNorm2d(40_000), nn.Linear(2, 2)
    )
    nn.init.ones_(network[2].bias)
    linear = network[3].weight.clone()
    network.apply(initialize_weights)
    for module, mean in zip(network[:3], (0, 0, 1), strict=True):
        assert module.weight.mean().item() == pytest.approx(mean, abs=5e-4)
        assert module.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not network[2].bias.any() and torch.equal(network[3].weight, linear)


# The diffusion network


def randomize(network: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value of its own, so that none can be mistaken for another."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.rand(tensor.shape))
    return network.eval()


def test_flow_of_the_diffusion_network(monkeypatch):
    """The data flow, written out from the layers."""
    monkeypatch.setattr(models.ddpm, "N_FEAT", 16)
    network = randomize(ContextUnet())
    x, label, t = torch.randn(3, 3, 28, 28), torch.randn(3, 10), torch.rand(3)
    first = network.init_conv(x)
    down1 = network.down1(first)
    down2 = network.down2(down1)
    up0 = network.up0(network.to_vec(down2))
    c1, c2 = (embed.model(label)[:, :, None, None] for embed in (network.contextembed1, network.contextembed2))
    t1, t2 = (embed.model(t[:, None])[:, :, None, None] for embed in (network.timeembed1, network.timeembed2))
    up1 = network.up1.model(torch.cat((c1 * up0 + t1, down2), 1))
    up2 = network.up2.model(torch.cat((c2 * up1 + t2, down1), 1))
    expected = network.out(torch.cat((up2, first), 1))
    torch.testing.assert_close(network(x, label, t), expected)
    assert torch.equal(network.decode(network.encode(x), label, t), network(x, label, t))
    container = DDPM(network)
    assert container.nn_model is network and torch.equal(container(x, label, t), network(x, label, t))


@pytest.mark.parametrize("channels", [4, 6])
def test_residual_block(channels):
    """(x or conv1(x)) + conv2(conv1(x)), divided by sqrt(2); without the skip in the plain kind."""
    block, plain = randomize(ResidualConvBlock(4, channels, is_res=True)), ResidualConvBlock(4, channels).eval()
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 4, 5, 5)
    hidden = block.conv1(x)
    skip = x if channels == 4 else hidden
    torch.testing.assert_close(block(x), (skip + block.conv2(hidden)) / 2**0.5)
    torch.testing.assert_close(plain(x), block.conv2(hidden))


# The domain-adversarial network


def test_gradient_reversal():
    """Identity forward; backward, the gradient times -alpha, of the domain classifier only."""
    torch.manual_seed(0)
    network, x = DANN(), torch.randn(3, 3, 28, 28)

    def gradients(outputs: torch.Tensor, *heads: nn.Module) -> list[torch.Tensor]:
        weights = [module.weight for module in (network.features[0], *(head[0] for head in heads))]
        return torch.autograd.grad(outputs.square().sum(), weights)

    task, domain = network.task_classifier, network.domain_classifier
    plain = [gradients(head(network.extract(x)), head) for head in (task, domain)]
    assert plain[1][0].abs().max() > 1e-4
    for alpha in (0.0, 0.25, 1.0):
        torch.testing.assert_close(gradients(network(x, alpha)[0], task), plain[0])
        reversed_once = (-alpha * plain[1][0], plain[1][1])
        torch.testing.assert_close(gradients(network(x, alpha)[1], domain), reversed_once)


def test_dann_shapes_and_flow():
    network = DANN()
    x = torch.randn(2, 3, 28, 28)
    features = network.extract(x)
    task, domain = network(x, 0.5)
    assert features.shape == (2, 1200) and task.shape == (2, 10) and domain.shape == (2, 2)
    # 4 x 4 averaged to 5 x 5: cell i is the mean of the rows (columns) that overlap [0.8 i, 0.8 i + 0.8].
    cells = torch.tensor([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 1]])
    torch.testing.assert_close(features, (cells @ network.features(x) @ cells.T).flatten(1))
    torch.testing.assert_close(network.extract(x[:, :1]), network.extract(x[:, :1].repeat(1, 3, 1, 1)))  # grey
    torch.testing.assert_close(task, network.task_classifier(features))
    torch.testing.assert_close(domain, network.domain_classifier(features))


def test_pooling_leaves_a_device_that_lacks_it(monkeypatch):
    """Apple's GPUs do not average 4 x 4 to 5 x 5; the CPU does it for them, with the same features and gradients."""
    assert can_pool_unevenly(torch.device("cuda")) and not can_pool_unevenly(torch.device("mps"))
    network, x = DANN(), torch.randn(2, 3, 28, 28)

    def features() -> tuple[torch.Tensor, torch.Tensor]:
        found = network.extract(x)
        return found, *torch.autograd.grad(found.square().sum(), network.features[0].weight)

    expected = features()
    monkeypatch.setattr("models.dann.can_pool_unevenly", lambda device: False)
    assert all(map(torch.equal, features(), expected))
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        network.to("meta").extract(x.to("meta"))


def test_classifier_flow():
    """conv, ReLU, pool, twice; then three linear layers with ReLU between."""
    network, x = Classifier(), torch.randn(2, 3, 28, 28)
    count = 6 * 76 + 16 * (6 * 25 + 1) + 257 * 128 + 129 * 64 + 65 * 10
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    expected = nn.Sequential(
        *(network.conv1, nn.ReLU(), nn.MaxPool2d(2), network.conv2, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(network.fc1, nn.ReLU(), network.fc2, nn.ReLU(), network.fc3),
    )
    torch.testing.assert_close(network(x), expected(x))
