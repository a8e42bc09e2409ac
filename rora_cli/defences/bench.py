"""What a defence works with: the suspect, its task, clean rows, settings, and the means to train and to measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rora_cli.data.rows import Rows
from rora_cli.defences.gauge import Gauge
from rora_cli.defences.recipes import WITHOUT_ADAPTER
from rora_cli.defences.settings import Settings
from rora_cli.results.findings import Finding
from rora_cli.results.power import Covering, Power
from rora_cli.results.purify import FoundResidual, TriggerChange
from rora_cli.results.spectra import ModuleSpectrum
from rora_cli.results.utility import Removed, UtilityChange
from rora_cli.subject import Subject
from rora_cli.tasks.task import Task
from rora_cli.training.adapters import AdaptedLayer, attach, check_adapter, whole_modules
from rora_cli.training.loop import finetune
from rora_cli.training.objective import Objective
from rora_cli.training.regularisers import SubspacePenalty, check_truncation, clean_strengthened
from rora_cli.training.rescaling import chosen_layers
from rora_cli.training.run import Run
from rora_cli.training.sharding import Sharding, shard

if TYPE_CHECKING:
    from rora_cli.defences.config import PurifyConfig

#: Width of the model on which the recipe's rate was found. A narrower one learns at a rate as many times larger as it
#: is narrower: Adam's steps are of one size, and the sums that they change have fewer terms. (32 wide, the trigger
#: known, Qwen3 and GPT-2: 38 and 100 % of the attacks were left at 5e-4, 2 and 11 % at 3e-3.)
RATE_WIDTH = 384


@dataclass
class Cleansed:
    """What a defence hands back.

    Attributes:
        model: PEFT's model around the suspect, or, without ``layers``, the suspect itself, changed.
        layers: the adapted layers.
        verdict: as in ``PurifyResult``, before clean accuracy is judged; ``reason`` is the sentence on it.
        residual: the strongest trigger that the last search still found.
        update_before: the spectra of the update before Pt.
        findings: what the defence has to say beside its verdict.
        utility: what it cost a model that replies in free text; ``removed``: the triggers that were found or named.
        unmet: the first condition of a pass that does not hold (``results.purify.CONDITIONS``); empty if all do.
        triggers: what the found and named triggers of a classifier did before, and do now.
        suspects_share: fraction of the model's weights that are the suspect's, trained further or not.
        power: what the last search would have found, where that was measured; ``covering``: what its silence covers.
        alone: whether the adapter makes the result of the base that the user named, without the suspect's adapter.
    """

    model: nn.Module
    layers: list[AdaptedLayer]
    verdict: str
    reason: str
    residual: FoundResidual | None = None
    update_before: tuple[ModuleSpectrum, ...] = ()
    findings: tuple[Finding, ...] = ()
    utility: UtilityChange | None = None
    removed: tuple[Removed, ...] = ()
    unmet: str = ""
    triggers: tuple[TriggerChange, ...] = ()
    suspects_share: float = 1.0
    power: Power | None = None
    covering: Covering | None = None
    alone: bool = False


@dataclass
class Bench:
    """A defence is a function ``Bench -> Cleansed``. Every process calls the methods, in the same order.

    Attributes:
        subject: the suspect. Defences change its model in place.
        task: what the model is asked to do.
        clean: clean rows to train on.
        gauge: measures what a change costs, on other rows.
        run: processes, saved state, progress, and the stages done so far.
        config: the user's options.
        settings: every setting with a value: the user's, else the recipe's.
        adapted: the layers that get an adapter.
        head: the modules that are trained whole beside it.
        left_out: what no adapter reaches, for the report.
    """

    subject: Subject
    task: Task
    clean: Rows
    gauge: Gauge
    run: Run
    config: PurifyConfig
    settings: Settings
    adapted: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    left_out: tuple[Finding, ...] = field(default_factory=tuple)
    _attached: tuple[nn.Module, list[AdaptedLayer]] | None = None

    @property
    def model(self) -> nn.Module:
        """The suspect's model."""
        return self.subject.model

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the task's behaviours, which a trigger may be aimed at; a classifier's are its labels."""
        return tuple(behaviour.name for behaviour in self.task.behaviours)

    def check_adapter(self) -> None:
        """Raise UsageError if the adapter of the settings, Tr or Pt does not fit on the suspect."""
        specs = self.settings
        layers = check_adapter(self.model, specs.adapter, self.subject.kind)
        self.adapted = tuple(layer.name for layer in layers)
        if specs.regularisers.tr:
            for layer in layers:
                check_truncation(layer.name, min(layer.base_weight().shape), specs.regularisers.tr_k)
        if specs.rescaling.pt:
            chosen_layers(layers, specs.rescaling)

    def attach(self) -> tuple[nn.Module, list[AdaptedLayer]]:
        """Put the adapter of the settings on the suspect, in place; its first weights are drawn from the seed."""
        if self._attached is not None:
            return self._attached
        model, layers = attach(self.model, self.settings.adapter, self.subject.kind, seed=self.config.seed)
        self.adapted, self.head = tuple(layer.name for layer in layers), whole_modules(model)
        return model, layers

    def shard(self, sharding: Sharding) -> None:
        """Divide the suspect among the processes for the rest of the run, with the adapter of the settings on it.

        FSDP divides what is there: an adapter that came later would stay outside. As long as it is not trained, the
        adapter adds nothing, so that the gauge and the first search have the suspect as it is.
        """
        model: nn.Module = self.model
        if self.config.recipe in WITHOUT_ADAPTER:
            model.float().requires_grad_(True)
        else:
            self._attached = self.attach()
            model = self._attached[0]
        shard(model, sharding, self.run.device, self.run.accelerator.mixed_precision)
        if sharding.checkpointing:
            self.settings = self.settings.having(gradient_checkpointing=True)
        self.run.sharded = True
        self.gauge.subject = self.gauge.subject.having(model)

    def train(
        self,
        model: nn.Module,
        layers: Sequence[AdaptedLayer],
        *,
        stage: str,
        objective: Objective | None = None,
        penalty: Callable[[], Tensor] | None = None,
        settings: Settings | None = None,
        strengthened: Sequence[AdaptedLayer] | None = None,
    ) -> None:
        """Train ``model`` in place, and record the stage.

        Args:
            layers: those that have an adapter: Cl acts on them, and Tr unless there is another penalty.
            strengthened: those that Cl acts on, if not on all.
            stage: its name in the report, and in the state of a run.
            objective: what is minimised; the clean rows as they are, if it is None.
            penalty: a scalar that is added to the loss of each step.
            settings: in place of the bench's.

        Raises:
            TrainingError: a loss is not finite.
        """
        specs = settings or self.settings
        model.to(self.run.device)
        if not layers:
            model.float()  # small steps are lost where every weight is held in 16 bits
        if penalty is None and layers and specs.regularisers.tr:
            penalty = SubspacePenalty(layers, specs.regularisers, seed=self.config.seed)
        with clean_strengthened(model, layers if strengthened is None else strengthened, specs.regularisers.cl):
            outcome = finetune(
                model,
                objective or self.task.objective(self.subject, self.clean.texts, self.clean.labels),
                specs.train,
                accelerator=self.run.accelerator,
                penalty=penalty,
                evaluate=self._scores,
                stage=self.run.stage(stage),
            )
        self.run.record(stage, outcome.seconds, steps=outcome.steps, epochs=outcome.epochs)

    def _scores(self, model: nn.Module) -> dict[str, Any]:
        accuracy = self.gauge.measure(model)
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
        suspects_share: float = 1.0,
    ) -> Cleansed:
        """What a recipe hands back that ``does`` something without looking for triggers."""
        reason = (
            f"the recipe {self.config.recipe} {does} without searching for a trigger: use `rora hunt` or "
            "`rora eval-asr`"
        )
        return Cleansed(
            model,
            layers or [],
            "not assessed",
            reason,
            update_before=update_before,
            suspects_share=suspects_share,
        )


def faster(model: nn.Module) -> float:
    """How many times the recipe's rate a model narrower than ``RATE_WIDTH`` learns at; 1 for any other."""
    config: Any = getattr(model, "config", None)
    width = getattr(config.get_text_config(), "hidden_size", None) if config is not None else None
    return max(1.0, RATE_WIDTH / (width or RATE_WIDTH))
