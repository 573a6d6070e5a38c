import torch
from torch import nn

from omnirt_lab.tiny_shapes.captions import known_words
from omnirt_lab.tiny_shapes.denoiser import build_scheduler, denoising_loss, stratified_timesteps
from omnirt_lab.tiny_shapes.fitting import Plan, Trainer, cosine_tail
from omnirt_lab.tiny_shapes.model import build_networks
from omnirt_lab.tiny_shapes.samples import crop_batch, picture_batch
from omnirt_lab.tiny_shapes.tokenizer import build_tokenizer
from omnirt_lab.tiny_shapes.vae import autoencoding_loss, build_vae, encode_mean, whiten

FOUR_STEPS = Plan(name="mini", steps=4, warm_up=2, seed=3)


def train_autoencoder(folder, *stops):
    """Train a new autoencoder on crops, by one trainer for each stop; return its flat weights."""
    for stop in stops:
        torch.manual_seed(0)
        vae = build_vae()
        trainer = Trainer(FOUR_STEPS, [vae], folder)
        trainer.fit(lambda rng, vae=vae: autoencoding_loss(vae, crop_batch(2, 16, rng), rng), until=stop)
    return trainer.weights.values.clone()


def test_two_steps_and_two_more_make_the_same_weights_as_four(tmp_path):
    (tmp_path / "once").mkdir()
    (tmp_path / "twice").mkdir()

    once = train_autoencoder(tmp_path / "once", 4)
    twice = train_autoencoder(tmp_path / "twice", 2, 4)

    assert torch.equal(once, twice)


def test_a_finished_plan_is_not_trained_again(tmp_path):
    first = train_autoencoder(tmp_path, 4)
    written = (tmp_path / "mini.pt").stat().st_mtime_ns

    again = train_autoencoder(tmp_path, 4)

    assert torch.equal(first, again)
    assert (tmp_path / "mini.pt").stat().st_mtime_ns == written


def test_a_checkpoint_leaves_no_half_written_file(tmp_path):
    train_autoencoder(tmp_path, 1)

    assert [path.name for path in tmp_path.iterdir()] == ["mini.pt"]


def test_training_lowers_a_loss(tmp_path):
    layer = nn.Linear(3, 1)
    plan = Plan(name="line", steps=300, learning_rate=0.03, warm_up=5, average=0.9)

    def loss(rng):
        points = torch.randn(16, 3, generator=rng)
        return (layer(points) - points.sum(dim=1, keepdim=True) - 1).square().mean()

    Trainer(plan, [layer], tmp_path).fit(loss)

    assert torch.allclose(layer.weight, torch.ones(1, 3), atol=0.02)
    assert torch.allclose(layer.bias, torch.ones(1), atol=0.02)


def test_the_learning_rate_warms_up_stays_and_falls_to_nothing():
    plan = Plan(name="x", steps=1000, warm_up=10, tail=0.5)

    assert cosine_tail(0, plan) == 0.1
    assert cosine_tail(400, plan) == 1.0
    assert cosine_tail(750, plan) == 0.5
    assert cosine_tail(1000, plan) == 0.0


def test_timesteps_cover_the_schedule_evenly():
    timesteps = stratified_timesteps(10, 1000, torch.Generator().manual_seed(0))

    assert (timesteps // 100).tolist() == list(range(10))


def test_the_same_generator_draws_the_same_batch():
    one, other = (picture_batch(3, torch.Generator().manual_seed(5)) for _ in range(2))

    assert torch.equal(one, other)
    assert one.shape == (3, 3, 64, 64)
    assert -1 <= one.min() < one.max() <= 1


def test_whitening_changes_the_latents_and_not_what_is_restored():
    torch.manual_seed(0)
    vae, pictures = build_vae().eval(), picture_batch(4, torch.Generator().manual_seed(1))
    with torch.no_grad():
        raw = encode_mean(vae, pictures)
        before = vae.decode(raw).sample
        whiten(vae, raw)
        latents = encode_mean(vae, pictures)
        after = vae.decode(latents).sample

    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3)
    assert torch.allclose(after, before, atol=1e-3)


def test_an_untrained_denoiser_has_a_finite_loss_and_a_gradient_in_every_part():
    torch.manual_seed(0)
    networks = build_networks(build_tokenizer(known_words()))
    latents = torch.randn(4, 4, 8, 8)

    states = networks.read(["a red circle on a blue background", "", "star", "zebra"])
    loss = denoising_loss(networks.unet, build_scheduler(), latents, states, torch.Generator().manual_seed(0))
    loss.backward()

    assert 0.5 < loss.item() < 3
    assert networks.text_encoder.get_input_embeddings().weight.grad.abs().sum() > 0
    assert networks.unet.conv_in.weight.grad.abs().sum() > 0
