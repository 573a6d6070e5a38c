"""Trains tiny-shapes from nothing: `python -m omnirt_lab.tiny_shapes.train --out DIR`.

Five stages, each going on from its checkpoint in DIR: `autoencoder` (crops, then whole pictures), `latents` (encode
the training pictures once and whiten), `denoiser` (text encoder and UNet), `decoder` (sharpen the decoder on noisy
latents) and `export` (DIR/pipeline). The same steps, seeds and shards make the same weights, up to rounding, whatever
the number of processes.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
import torch.distributed as dist
from diffusers import AutoencoderKL
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from omnirt_lab.tiny_shapes.captions import known_words
from omnirt_lab.tiny_shapes.denoiser import build_scheduler, denoising_loss
from omnirt_lab.tiny_shapes.fitting import Plan, Trainer, save_in_one_move
from omnirt_lab.tiny_shapes.model import Networks, build_networks, save_pipeline
from omnirt_lab.tiny_shapes.samples import (
    crop_batch,
    draw_scenes,
    picture_batch,
    python_rng,
    random_scenes,
    training_caption,
)
from omnirt_lab.tiny_shapes.scenes import Scene
from omnirt_lab.tiny_shapes.tokenizer import build_tokenizer
from omnirt_lab.tiny_shapes.vae import autoencoding_loss, build_vae, encode_mean, picture_loss, whiten

CROPS = Plan(name="crops", steps=1500, learning_rate=2e-3, tail=0.2, average=0.99, seed=1)
PICTURES = Plan(name="pictures", steps=1000, learning_rate=1e-3, tail=0.6, average=0.99, seed=2)
DENOISER = Plan(name="denoiser", steps=8000, learning_rate=1e-3, tail=0.5, average=0.999, seed=3)
DECODER = Plan(name="decoder", steps=2000, learning_rate=1e-3, tail=0.6, average=0.99, seed=4)

CROP_PX = 32
SHARD_CROPS, SHARD_PICTURES, SHARD_LATENTS = 32, 16, 32
"""Samples of one shard; a step has `Plan.shards` shards."""

TRAINING_SCENES = 32_768
SCENES_SEED = 5
WEIGHTS_SEED = 0
DECODER_NOISE = 0.3
"""Largest deviation of the noise on whitened latents that the decoder learns to undo."""


def main() -> None:
    """Run the stages that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and of the finished pipeline")
    parser.add_argument("--stage", choices=STAGES, help="run this stage only (default: all, in order)")
    parser.add_argument("--processes", type=int, default=2, help="training processes of one thread each (default: 2)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in [arguments.stage] if arguments.stage else STAGES:
        processes = arguments.processes if name in SHARED_STAGES else 1
        run_stage(name, arguments.out, processes)


def run_stage(name: str, out: Path, processes: int) -> None:
    """Run one stage in new processes; an error in one of them ends them all and is raised here."""
    with tempfile.TemporaryDirectory() as folder:
        start_processes(  # type: ignore[no-untyped-call]  # torch has not annotated it
            _work, (name, out, processes, folder), nprocs=processes, start_method="spawn"
        )


def fit_autoencoder(out: Path) -> None:
    """Train encoder and decoder together, on crops first because they cost a quarter."""
    vae = _new_vae()
    Trainer(CROPS, [vae], out).fit(lambda rng: autoencoding_loss(vae, crop_batch(SHARD_CROPS, CROP_PX, rng), rng))
    Trainer(PICTURES, [vae], out).fit(lambda rng: autoencoding_loss(vae, picture_batch(SHARD_PICTURES, rng), rng))


@torch.no_grad()
def cache_latents(out: Path) -> None:
    """Encode the training scenes, whiten the autoencoder, and save both."""
    vae = _new_vae()
    Trainer(PICTURES, [vae], out).restore()
    scenes = _training_scenes()
    pictures = (draw_scenes(scenes[start : start + 64]) for start in range(0, len(scenes), 64))
    whiten(vae, torch.cat([encode_mean(vae, batch) for batch in pictures]))
    pictures = (draw_scenes(scenes[start : start + 64]) for start in range(0, len(scenes), 64))
    save_in_one_move(torch.cat([encode_mean(vae, batch) for batch in pictures]), out / "latents.pt")
    save_in_one_move(vae.state_dict(), out / "vae.pt")


def fit_denoiser(out: Path) -> None:
    """Train the text encoder and the UNet on the cached latents."""
    networks, scheduler = _new_networks(), build_scheduler()
    latents, scenes = torch.load(out / "latents.pt", weights_only=True), _training_scenes()

    def loss(rng: torch.Generator) -> Tensor:
        chosen = torch.randint(len(scenes), (SHARD_LATENTS,), generator=rng)
        words = python_rng(rng)
        captions = [training_caption(scenes[index], words) for index in chosen.tolist()]
        return denoising_loss(networks.unet, scheduler, latents[chosen], networks.read(captions), rng)

    Trainer(DENOISER, [networks.text_encoder, networks.unet], out).fit(loss)


def fit_decoder(out: Path) -> None:
    """Train the decoder alone to restore clean pictures from noisy latents."""
    vae = _whitened_vae(out)
    latents, scenes = torch.load(out / "latents.pt", weights_only=True), _training_scenes()

    def loss(rng: torch.Generator) -> Tensor:
        chosen = torch.randint(len(scenes), (SHARD_PICTURES,), generator=rng)
        noise = torch.randn(latents[chosen].shape, generator=rng)
        deviation = DECODER_NOISE * torch.rand((SHARD_PICTURES, 1, 1, 1), generator=rng)
        restored = vae.decode(latents[chosen] + deviation * noise).sample
        return picture_loss(restored, draw_scenes([scenes[index] for index in chosen.tolist()]))

    Trainer(DECODER, [vae.post_quant_conv, vae.decoder], out).fit(loss)


def export(out: Path) -> None:
    """Save the pipeline as it stands, whichever stages are finished."""
    networks, vae = _new_networks(), _whitened_vae(out)
    Trainer(DENOISER, [networks.text_encoder, networks.unet], out).restore()
    Trainer(DECODER, [vae.post_quant_conv, vae.decoder], out).restore()
    save_pipeline(networks, vae, build_scheduler(), out / "pipeline")


STAGES: dict[str, Callable[[Path], None]] = {
    "autoencoder": fit_autoencoder,
    "latents": cache_latents,
    "denoiser": fit_denoiser,
    "decoder": fit_decoder,
    "export": export,
}
SHARED_STAGES = ("autoencoder", "denoiser", "decoder")


def _work(rank: int, stage: str, out: Path, processes: int, folder: str) -> None:
    """Run one stage in process number `rank`, which meets the others in `folder`."""
    torch.set_num_threads(1)
    if processes > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        meeting = f"file://{folder}/meeting"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    STAGES[stage](out)
    if processes > 1:
        dist.destroy_process_group()


def _training_scenes() -> list[Scene]:
    return random_scenes(TRAINING_SCENES, Random(SCENES_SEED))


def _new_networks() -> Networks:
    torch.manual_seed(WEIGHTS_SEED)
    return build_networks(build_tokenizer(known_words()))


def _new_vae() -> AutoencoderKL:
    torch.manual_seed(WEIGHTS_SEED)
    return build_vae()


def _whitened_vae(out: Path) -> AutoencoderKL:
    vae = build_vae()
    vae.load_state_dict(torch.load(out / "vae.pt", weights_only=True))
    return vae


if __name__ == "__main__":
    main()
