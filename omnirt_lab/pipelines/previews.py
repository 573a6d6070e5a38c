"""Previews of a run: what its picture will be as far as can be told now, for no more than 1 % of its time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import torch

from omnirt_lab.pipelines.clean_prediction import SolverStep, predicted_clean
from omnirt_lab.pipelines.preview_decoding import MEDIA_TYPE, VaeDecoder
from omnirt_lab.pipelines.sink import Sink
from omnirt_lab.records import WarningData
from omnirt_lab.units import NS_PER_S

TIMES_THE_COST: Final = 160
"""A preview may begin when so many times what all of them cost, its own expected cost included, has passed: 0.6 %, so
that one which takes longer than the last did, and the view that shows it, stay below 1 % together."""

INTERVAL_NS: Final = NS_PER_S // 10

GUESSED_STEPS: Final = 2
"""How many steps a decode of all latents is taken to cost until one was measured; it is about one and a half for Stable
Diffusion 1.5 at 512 px (2.5 against 1.6 TFLOP) and less for larger models."""

Size = tuple[int, int]


class PreviewViewer(Protocol):
    """Somebody who may want to see the picture before it is done; the journal's job writer is one."""

    def wants_preview(self) -> bool:
        """Whether somebody looks; asked in each step, so it must answer at once."""

    def show_preview(self, content: bytes, *, media_type: str, step: int) -> None:
        """Take the picture as it was predicted after `step` steps."""


class Progress(NamedTuple):
    """How far the denoising is."""

    steps_done: int
    total: int | None
    step_ns: int
    """How long the latest step took."""


class PreviewCosts:
    """What previews cost when they were last made, for each VAE and size of latents. Of this process."""

    def __init__(self) -> None:
        self._costs: weakref.WeakKeyDictionary[Any, dict[Size, int]] = weakref.WeakKeyDictionary()

    def note(self, vae: object, size: Size, cost_ns: int) -> None:
        """One has been made."""
        self._costs.setdefault(vae, {})[size] = cost_ns

    def expect(self, vae: object, size: Size) -> int | None:
        """Nanoseconds that one will cost at most, told from the nearest that was made; None if none was."""
        pixels = size[0] * size[1]
        known = self._costs.get(vae, {})
        if size in known:
            return known[size]
        guesses = (cost_ns * max(1.0, pixels / (h * w)) for (h, w), cost_ns in known.items())
        return round(min(guesses)) if known else None


COSTS: Final = PreviewCosts()


class Pending(NamedTuple):
    """A preview that is due."""

    latents: torch.Tensor
    size: Size
    decoder: VaeDecoder


class Previews:
    """Makes the previews of one call.

    1. `solved` hears of each solver step, and keeps its prediction if a preview is due.
    2. `show` makes it, before the denoiser is called for the next step.
    3. The first failure is the last: it is told in a warning, and the run goes on without previews.
    """

    def __init__(
        self,
        viewer: PreviewViewer,
        sink: Sink,
        find_decoder: Callable[[], VaeDecoder | None],
        *,
        costs: PreviewCosts = COSTS,
    ) -> None:
        self._viewer = viewer
        self._sink = sink
        self._find_decoder = find_decoder
        self._decoder: VaeDecoder | None = None
        self._costs = costs
        self._started_ns = sink.now_ns()
        self._shown_ns: int | None = None
        self._awaited_ns = 0
        """The cost of the preview that is waited for; 0 when none was tried yet."""
        self._pending: Pending | None = None
        self._is_over = False
        self.img_ids: torch.Tensor | None = None
        """What the denoiser was last given under this name."""
        self.spent_ns = 0

    @property
    def is_pending(self) -> bool:
        """Whether `show` has something to do."""
        return self._pending is not None

    def solved(self, step: SolverStep, progress: Progress) -> None:
        """The pipeline's scheduler has stepped."""
        self._pending = None
        if (
            not self._is_over
            and progress.steps_done
            and self._may_spend(self._awaited_ns)
            and self._viewer.wants_preview()
        ):
            began_ns = self._sink.now_ns()
            self._attempt(lambda: self._prepare(step, progress))
            self.spent_ns += self._sink.now_ns() - began_ns

    def await_device(self) -> None:
        """Wait for what the run itself has queued, so that it does not count as the preview's cost."""
        if self._pending is not None and self._pending.latents.device.type == "cuda":
            torch.cuda.synchronize(self._pending.latents.device)

    def show(self, steps_done: int) -> None:
        """Make the preview that is due."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        began_ns = self._sink.now_ns()
        self._attempt(lambda: self._make(pending, steps_done))
        self._shown_ns = self._sink.now_ns()
        self.spent_ns += self._shown_ns - began_ns
        self._costs.note(pending.decoder.vae, pending.size, self._shown_ns - began_ns)

    def _may_spend(self, more_ns: int) -> bool:
        now_ns = self._sink.now_ns()
        if self._shown_ns is not None and now_ns - self._shown_ns < INTERVAL_NS:
            return False
        return TIMES_THE_COST * (self.spent_ns + more_ns) <= now_ns - self._started_ns

    def _prepare(self, step: SolverStep, progress: Progress) -> None:
        decoder = self._decoder = self._decoder or self._find_decoder()
        clean = predicted_clean(step)
        latents = None if decoder is None or clean is None else decoder.latents(clean, self.img_ids)
        if decoder is None or clean is None or latents is None:
            self._is_over = True  # it will be no other in the next step
            return
        latent_pixels = clean.shape[0] * latents.shape[-2] * latents.shape[-1]
        left = 0 if progress.total is None else progress.total - progress.steps_done
        run_ns = self._sink.now_ns() - self._started_ns + left * progress.step_ns
        for size in decoder.sizes(latents.shape[-2], latents.shape[-1]):
            cost_ns = self._costs.expect(decoder.vae, size)
            if cost_ns is None:
                cost_ns = GUESSED_STEPS * progress.step_ns * size[0] * size[1] // latent_pixels
            self._awaited_ns = cost_ns
            if self._may_spend(cost_ns):
                self._pending = Pending(latents, size, decoder)
                return
            if 2 * TIMES_THE_COST * cost_ns <= run_ns:  # affordable before half of the run: worth waiting for
                return

    def _make(self, pending: Pending, steps_done: int) -> None:
        picture = pending.decoder.picture(pending.latents, pending.size)
        if picture is None:
            self._is_over = True
        else:
            self._viewer.show_preview(picture, media_type=MEDIA_TYPE, step=steps_done)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001  # watching a run must never break it
            self._is_over, self._pending = True, None
            self._sink.emit(
                WarningData(
                    code="preview_failed",
                    message=f"previews of this run have ended: {type(error).__name__}: {error}",
                    hint="The run itself goes on, and its picture is not affected.",
                )
            )
