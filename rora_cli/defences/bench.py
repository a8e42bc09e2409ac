"""What a defence works with: the suspect, the clean rows, the settings, and the means to train and to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from rora_cli.data.rows import Rows
from rora_cli.defences.settings import Settings
from rora_cli.evaluation.accuracy import clean_accuracy
from rora_cli.evaluation.inference import predict_logits
from rora_cli.kinds import SEQUENCE_CLASSIFIER
from rora_cli.progress import Progress
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.results.findings import Finding
from rora_cli.results.purify import FoundResidual, StageRecord
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.spectral import alignment, decomposition, strength
from rora_cli.subject import Subject
from rora_cli.tasks.classification.objective import ClassificationObjective
from rora_cli.training.adapters import AdaptedLayer, attach, check_adapter, trained_heads, whole_modules
from rora_cli.training.balance import balancing_shift, trainable_bias
from rora_cli.training.loop import finetune
from rora_cli.training.objective import RowTransform
from rora_cli.training.regularisers import SubspacePenalty, check_truncation, clean_strengthened
from rora_cli.training.rescaling import chosen_layers, rescale_trained
from rora_cli.training.run import Stage, on_main
from rora_cli.training.state import RunState

if TYPE_CHECKING:
    import numpy as np

    from rora_cli.defences.config import PurifyConfig

#: Directions of W that the report's alignment looks at.
ALIGNMENT_K = 32
#: Shares of a training that ``shrink`` tries in turn, and those where it can be done without.
SHRUNK = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)
SHRUNK_AWAY = (*SHRUNK, 0.0)


@dataclass
class Cleansed:
    """What a defence hands back. ``model`` is PEFT's around the suspect, or, without layers, the changed suspect."""

    model: nn.Module
    layers: list[AdaptedLayer]
    stages: list[StageRecord]
    verdict: str
    reason: str
    residual: FoundResidual | None = None
    update_before: tuple[ModuleSpectrum, ...] = ()
    findings: tuple[Finding, ...] = ()


class Defence(Protocol):
    """A way to purify."""

    def __call__(self, bench: Workbench) -> Cleansed: ...


@dataclass
class Workbench:
    """``settings`` are the recipe's, resolved; ``before`` is the suspect's clean accuracy, once measured.

    ``adapted`` and ``head`` name the layers that have an adapter and the modules that are trained whole beside it.

    All methods are called by every process, in the same order.
    """

    config: PurifyConfig
    settings: Settings
    model: nn.Module
    tokenizer: Any
    label_names: tuple[str, ...]
    train_rows: Rows
    held_out: Rows
    max_length: int
    accelerator: Any
    state: RunState
    progress: Progress
    stages: list[StageRecord] = field(default_factory=list)
    before: CleanAccuracy | None = None
    adapted: tuple[str, ...] = ()
    head: tuple[str, ...] = ()

    def measure(self, model: nn.Module | None = None, *, name: str | None = None) -> CleanAccuracy:
        """Clean accuracy on the held-out rows, measured by the main process and known to all."""
        return on_main(self.accelerator, lambda: self.measure_here(model, name=name))

    def measure_here(self, model: nn.Module | None = None, *, name: str | None = None) -> CleanAccuracy:
        """The same, measured by the process that calls it."""
        subject = (model or self.model).to(self.accelerator.device)
        if name is None:
            logits = predict_logits(subject, self.tokenizer, self.held_out.texts, max_length=self.max_length)
        else:
            with self.progress.phase(name, len(self.held_out)) as task:
                logits = predict_logits(
                    subject, self.tokenizer, self.held_out.texts, max_length=self.max_length, task=task
                )
        return clean_accuracy(logits, self.held_out.labels, self.label_names)

    def check_adapter(self) -> None:
        """Raise UsageError where the adapter of the settings, Tr or Pt does not fit on the suspect."""
        specs = self.settings
        layers = check_adapter(self.model, specs.adapter)
        if specs.regularisers.tr:
            for layer in layers:
                check_truncation(layer.name, min(layer.base_weight().shape), specs.regularisers.tr_k)
        if specs.rescaling.pt:
            chosen_layers(layers, specs.rescaling)

    def attach(self) -> tuple[nn.Module, list[AdaptedLayer]]:
        """Put the adapter of the settings on the suspect, seeded."""
        torch.manual_seed(self.config.seed)
        model, layers = attach(self.model, self.settings.adapter)
        self.adapted, self.head = tuple(layer.name for layer in layers), whole_modules(model)
        return model, layers

    def train(
        self,
        model: nn.Module,
        layers: Sequence[AdaptedLayer],
        *,
        stage: str,
        transform: RowTransform | None = None,
        penalty: Callable[[], Tensor] | None = None,
        overrides: Mapping[str, Any] | None = None,
        rows: tuple[Sequence[str], Sequence[int] | Sequence[Sequence[float]]] | None = None,
    ) -> None:
        """One training run with Cl as the settings say, and Tr where no other ``penalty`` is given.

        ``overrides`` go over the settings; ``rows`` are texts and labels, or probabilities, in place of the clean rows.
        Its record is added to ``stages``.
        """
        specs = self.settings.having(**(overrides or {}))
        subject = Subject(model, self.tokenizer, SEQUENCE_CLASSIFIER, self.max_length)
        texts, labels = rows or (self.train_rows.texts, self.train_rows.labels)
        model.to(self.accelerator.device)
        if penalty is None and layers and specs.regularisers.tr:
            penalty = SubspacePenalty(layers, specs.regularisers, seed=self.config.seed)
        with clean_strengthened(layers, specs.regularisers.cl):
            outcome = finetune(
                model,
                ClassificationObjective(subject, texts, labels, transform=transform),
                specs.train,
                accelerator=self.accelerator,
                penalty=penalty,
                evaluate=self._scores,
                stage=Stage(stage, self.state, self.progress),
            )
        self.stages.append(StageRecord(stage, outcome.seconds, outcome.steps, outcome.epochs))

    def _scores(self, model: nn.Module) -> dict[str, Any]:
        accuracy = self.measure_here(model)
        return {
            "accuracy": accuracy.overall.value,
            "per_class": {name: share.value for name, share in accuracy.per_class.items()},
        }

    def not_assessed(
        self,
        model: nn.Module,
        layers: list[AdaptedLayer] | None = None,
        update_before: tuple[ModuleSpectrum, ...] = (),
        *,
        does: str = "trains",
    ) -> Cleansed:
        """What a recipe hands back that ``does`` something without looking for triggers."""
        return Cleansed(
            model,
            layers or [],
            self.stages,
            "not assessed",
            f"the recipe {self.config.recipe} {does} without searching for a trigger: use `rora hunt` or "
            "`rora eval-asr`",
            update_before=update_before,
        )

    def rescale(self, model: nn.Module, layers: Sequence[AdaptedLayer], *, stage: str) -> None:
        """Pt as the settings say, on the main process: the others get the weights when training next starts."""
        spec = self.settings.rescaling
        if not spec.pt or not self.accelerator.is_main_process:
            return
        began = perf_counter()
        with self.progress.phase(stage) as task:

            def measure() -> CleanAccuracy:
                accuracy = self.measure_here(model)
                task.advance(1, accuracy=accuracy.overall.value or 0.0)
                return accuracy

            outcome = rescale_trained(layers, spec, measure, self.before)
        self.stages.append(StageRecord(stage, perf_counter() - began, rescaling=outcome))
        if outcome.strength != spec.pt:
            kept = f"{outcome.strength:g} of Eq. 12" if outcome.strength else "none of it"
            self.progress.warn(
                f"Pt at {spec.pt:g} of Eq. 12 would cost more than {spec.max_accuracy_drop:g} points of "
                f"clean accuracy; backed off to {kept}"
            )

    def shrink(
        self,
        model: nn.Module,
        moved: Sequence[tuple[Tensor, Tensor]],
        *,
        stage: str,
        shares: Sequence[float] = SHRUNK,
    ) -> np.ndarray | None:
        """Take back a part of a training where it costs clean accuracy that ``balance`` cannot give back.

        ``moved`` has each trained weight with what it was. Measured: a suspect that had lost 5 points on one class had
        its accuracy again at .8 of the update, and the trigger worked no better (docs/measurements.md). ``shares`` are
        tried in turn; where none keeps it, the one that loses least is kept. On the main process, as with Pt; what
        ``balance`` would now add is handed back there.
        """
        if self.before is None or not self.accelerator.is_main_process:
            return None
        began = perf_counter()
        trained = [weight.detach().clone() for weight, _ in moved]

        def keep(share: float) -> None:
            with torch.no_grad():
                for (weight, start), end in zip(moved, trained, strict=True):
                    weight.copy_(torch.lerp(start.to(end), end, share))

        lost: dict[float, float] = {}
        shifts: dict[float, np.ndarray] = {}
        for share in shares:
            keep(share)
            shifts[share], after = self.balancing_shift(model)
            lost[share] = after.loss_beyond(self.before, self.config.allowed_drop)
            if not lost[share]:
                break
        share = min(lost, key=lambda tried: (lost[tried], -tried))
        keep(share)
        if share < 1:
            self.stages.append(StageRecord(stage, perf_counter() - began, details={"share of the update": share}))
        return shifts[share]

    def balancing_shift(self, model: nn.Module) -> tuple[np.ndarray, CleanAccuracy]:
        """What ``balance`` would add to the head's bias [classes], and clean accuracy with it."""
        labels = self.held_out.labels

        def assess(logits: np.ndarray) -> CleanAccuracy:
            return clean_accuracy(logits, labels, self.label_names)

        logits = predict_logits(model, self.tokenizer, self.held_out.texts, max_length=self.max_length)
        before = self.before or assess(logits)
        shift = balancing_shift(logits, labels, assess, before, self.config.allowed_drop)
        return shift, assess(logits + shift)

    def balance(self, model: nn.Module, *, stage: str, shift: np.ndarray | None = None) -> None:
        """Shift the head's bias where a class pays for another's gain, on the main process as with Pt.

        ``shift`` [classes] is that of ``shrink``, where nothing changed since.
        """
        bias = trainable_bias(model, len(self.label_names))
        if bias is None or not self.accelerator.is_main_process:
            return
        began = perf_counter()
        if shift is None:
            shift, _ = self.balancing_shift(model)
        if shift.any():
            with torch.no_grad():
                bias += torch.from_numpy(shift).to(bias)
            moved = {name: round(float(s), 4) for name, s in zip(self.label_names, shift, strict=True) if s}
            self.stages.append(StageRecord(stage, perf_counter() - began, details={"added to the bias": moved}))


def adapter_moved(model: nn.Module, layers: Sequence[AdaptedLayer]) -> list[tuple[Tensor, Tensor]]:
    """Each weight that takes the update back when it goes to its start (lora_B and the head's), and that start."""
    return [(layer.lora_B, torch.zeros_like(layer.lora_B)) for layer in layers] + trained_heads(model)


def update_spectra(layers: Sequence[AdaptedLayer]) -> tuple[ModuleSpectrum, ...]:
    """The spectrum of each layer's update s BA beside that of the suspect's own weight.

    A DoRA update is no low-rank product: its spectrum here is that of the low-rank part inside the magnitude.
    """
    return tuple(_update_spectrum(layer) for layer in layers)


def _update_spectrum(layer: AdaptedLayer) -> ModuleSpectrum:
    product = decomposition.product_svd(layer.lora_B.detach().cpu(), layer.lora_A.detach().cpu())
    sigma = product.S * abs(layer.scaling)
    weight = layer.base_weight().float().cpu()
    k = min(ALIGNMENT_K, min(weight.shape) - 1)
    top = decomposition.top_singular(weight, max(k, 1))
    statistics = strength.spectrum_statistics(sigma)
    base = float(top.S[0])
    return ModuleSpectrum(
        name=layer.name,
        shape=(int(weight.shape[0]), int(weight.shape[1])),
        rank=int(layer.lora_A.shape[0]),
        singular_values=tuple(float(s) for s in sigma),
        frobenius_norm=statistics.frobenius_norm,
        stable_rank=statistics.stable_rank,
        effective_rank=statistics.effective_rank,
        base_sigma_max=base,
        strength_ratio=strength.normalised_strength(statistics.sigma_max, base),
        alignment_k=k,
        alignment_left=alignment.energy_alignment(product.U, sigma, top.U),
        alignment_right=alignment.energy_alignment(product.V, sigma, top.V),
    )
