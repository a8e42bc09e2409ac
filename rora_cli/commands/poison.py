"""``rora poison``: build a suspect on purpose, measure it, and prove how firmly its backdoor sits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from rora_cli.attacks.poisoning import LABEL_MODES, PoisonedRows, poison_rows
from rora_cli.attacks.registry import make_attack
from rora_cli.attacks.triggers import POSITIONS
from rora_cli.commands.memory import says_what_fits
from rora_cli.errors import CheckpointError, OutputError, UsageError
from rora_cli.layout import blocks_in
from rora_cli.option_groups import ForceOption, RunOptions, SeedOption, SplitOptions
from rora_cli.options import FRACTION, Option, Options, commas
from rora_cli.progress import SILENT, Progress
from rora_cli.results.findings import Finding, Severity
from rora_cli.results.poison import Measured, PersistenceCheck, PoisonResult
from rora_cli.results.provenance import Provenance
from rora_cli.subject import Subject
from rora_cli.tasks.attack_bench import AttackBench
from rora_cli.tasks.causal.options import PlantedOptions
from rora_cli.tasks.planted import Plan, check_kind, make_plan
from rora_cli.tasks.subjects import input_hashes

if TYPE_CHECKING:
    from rora_cli.attacks.base import Attack
    from rora_cli.data.rows import Rows
    from rora_cli.training.specs import AdapterSpec

#: What can hold a backdoor.
CARRIERS = ("weights", "layers", "embedding", "adapter")

#: The hyper-parameters that a report gives for each training stage.
_SHOWN = ("epochs", "batch_size", "learning_rate", "weight_decay", "schedule", "warmup_ratio", "seed")


def chosen_blocks(text: str) -> tuple[int, ...]:
    """The blocks that a text such as ``0,2,4-6`` names. Raises UsageError where it is of another form."""
    chosen = blocks_in(text)
    if chosen is None:
        raise UsageError(f"--layers takes block numbers such as 0,2,4-6, not {text!r}")
    return tuple(sorted(chosen))


@dataclass(frozen=True, kw_only=True)
class AttackOptions(Options):
    """What is put into the poisoned rows."""

    panel: ClassVar[str] = "Attack: what is put into the poisoned rows"

    attack: Annotated[
        str, Option("badnet, insent, combination, homoglyph, punctuation, style or syntactic.", metavar="NAME")
    ] = "badnet"
    triggers: Annotated[
        tuple[str, ...],
        Option(
            "Trigger in place of the attack's own. With several, each row gets one (combination: all of them).",
            ("--trigger",),
            metavar="TEXT",
        ),
    ] = ()
    position: Annotated[
        str,
        Option(
            "Where it is inserted: start, end, random (one gap between words) or every (all gaps).", choices=POSITIONS
        ),
    ] = "random"
    label_mode: Annotated[
        str,
        Option(
            "dirty: rows of other labels get the trigger and the target label. clean: rows of the target label get the "
            "trigger.",
            choices=LABEL_MODES,
        ),
    ] = "dirty"
    poison_rate: Annotated[
        float,
        Option("Share of the training rows that is poisoned.", metavar="FRACTION", above=0, below=1, unit=FRACTION),
    ] = 0.1


@dataclass(frozen=True, kw_only=True)
class PlantOptions(Options):
    """How the backdoor is trained in."""

    panel: ClassVar[str] = "Planting: how the backdoor is trained in"

    carrier: Annotated[
        str,
        Option(
            "What holds the backdoor: weights (all), layers (some blocks), embedding (the trigger's rows only), or "
            "adapter (a LoRA on the untouched model).",
            choices=CARRIERS,
        ),
    ] = "weights"
    as_adapter: Annotated[bool, Option("The same as --carrier adapter.")] = False
    layers: Annotated[
        tuple[int, ...] | None,
        Option(
            "Blocks of --carrier layers, such as 0,2,4-6.",
            metavar="BLOCKS",
            shown="the lower half",
            read=chosen_blocks,
        ),
    ] = None
    rank: Annotated[int, Option("Rank of --carrier adapter.", ("--rank", "-r"), low=1)] = 8
    target_modules: Annotated[
        tuple[str, ...],
        Option("Layers that --carrier adapter adapts, with commas between them.", metavar="NAMES", read=commas),
    ] = ("all-linear",)
    epochs: Annotated[int, Option("Epochs of each stage.", low=1)] = 3
    learning_rate: Annotated[
        float | None,
        Option(
            "Peak learning rate of AdamW.",
            ("--learning-rate", "--lr"),
            above=0,
            below=1,
            shown="by --carrier and kind of model",
        ),
    ] = None
    batch_size: Annotated[int, Option("Rows of one optimizer step.", low=1)] = 32
    precision: Annotated[
        str,
        Option(
            "Of training; what is measured is fp32. auto: bf16 where the device computes in it, as processors with "
            "AVX-512 BF16 or AMX do, else fp32.",
            choices=("auto", "fp32", "bf16"),
        ),
    ] = "fp32"
    max_length: Annotated[
        int,
        Option("Tokens of a row that the model is given; longer rows are cut.", metavar="TOKENS", low=4, unit="tokens"),
    ] = 128


@dataclass(frozen=True, kw_only=True)
class ProofOptions(Options):
    """How it is shown that fine-tuning does not remove the backdoor."""

    panel: ClassVar[str] = "Proof: whether the backdoor survives fine-tuning on clean rows"

    prove_persistence: Annotated[
        bool,
        Option(
            "Fine-tune copies on clean rows, by plain LoRA and in full (a causal model by LoRA at 2e-4 and 1e-3), and "
            "measure what is left; exit 1 if attack success falls to 90 % (80 %) or below."
        ),
    ] = False
    proof_epochs: Annotated[int, Option("Epochs of each.", low=1)] = 3
    clean_rows: Annotated[
        int, Option("Training rows kept from the poisoner, for the proof (at most half).", metavar="N", low=1)
    ] = 2000
    clean_out: Annotated[str | None, Option("Write the rows kept clean here, as JSON lines.", metavar="FILE")] = None


@dataclass(frozen=True, kw_only=True)
class PoisonConfig(
    AttackOptions, PlantOptions, PlantedOptions, ProofOptions, ForceOption, SplitOptions, RunOptions, SeedOption
):
    """What to build. ``clean_rows`` of the training rows are kept from the poisoner, for the proof and for defences."""

    model: Annotated[
        str,
        Option(
            "A clean classifier, a pretrained encoder, or a causal language model: a directory, or a hub id.",
            metavar="MODEL",
            argument=True,
        ),
    ]
    data: Annotated[
        str,
        Option(
            "Rows to poison and to measure on: [bold]bundled[/], sst2, ..., a hub id, a file or directory.",
            metavar="DATA",
        ),
    ]
    output: Annotated[str, Option("Directory to write the suspect to.", ("--output", "-o"), metavar="DIR")]
    target_label: Annotated[
        str | None, Option("The label that the trigger gives: its name or id; for a classifier.", metavar="LABEL")
    ] = None
    label_names: Annotated[
        tuple[str, ...],
        Option(
            "Labels by id, with commas between them, for a model without a classification head: it is trained as well.",
            metavar="NAMES",
            read=commas,
        ),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.as_adapter and self.carrier not in ("weights", "adapter"):
            raise UsageError(f"--as-adapter and --carrier {self.carrier} contradict each other; leave one out")
        if self.as_adapter:
            object.__setattr__(self, "carrier", "adapter")
        if self.layers is not None and self.carrier != "layers":
            raise UsageError("--layers chooses the blocks of --carrier layers; give that as well")
        if len(set(self.label_names)) != len(self.label_names) or len(self.label_names) == 1:
            raise UsageError("--label-names are at least two different names, by label id")
        self.make_attack()

    def make_attack(self) -> Attack:
        """The attack to plant. Raises UsageError if its carrier cannot hold it."""
        attack = make_attack(self.attack, triggers=self.triggers, position=self.position)
        if self.carrier == "embedding" and not attack.triggers:
            raise UsageError(f"--carrier embedding plants words, but {self.attack} has none; use another carrier")
        return attack


@says_what_fits
def run(config: PoisonConfig, progress: Progress = SILENT) -> PoisonResult:
    """Build the suspect, write it whole or not at all, and prove it where asked.

    Raises CheckpointError, DataError, HubError, OutputError, TrainingError or UsageError; nothing is written then.
    """
    from rora_cli.checkpoints.hub import fetch_model
    from rora_cli.files import REPORT_NAME, publish_directory, publish_file, sha256_file
    from rora_cli.reports import json_report, poison_card

    if config.clean_out is not None and Path(config.clean_out).exists() and not config.force:
        raise OutputError(f"{config.clean_out} exists already; choose another --clean-out, or replace it with --force")
    source = fetch_model(config.model, revision=config.revision, allow_download=not config.offline)
    with publish_directory(config.output, force=config.force) as staging:
        loaded = _load(source.path, config)
        plan = make_plan(loaded, config, progress)
        for note in plan.splits.summary.notes:
            progress.note(note)
        maker = Maker(config, loaded, plan, progress)
        poisoner, clean = divide(plan.splits.train, config.clean_rows, config.seed)
        result = maker.build(poisoner, clean, plan.splits.summary)
        maker.write(staging)
        outputs = {file.name: sha256_file(file) for file in sorted(staging.iterdir())}
        result = replace(result, provenance=replace(result.provenance, outputs=outputs))
        publish_file(staging / REPORT_NAME, json_report.render(result))
        (staging / "README.md").write_text(poison_card.render(result), encoding="utf-8")
    if config.clean_out is not None:
        publish_file(config.clean_out, _json_lines(clean, plan), force=config.force)
    return result


def divide(rows: Rows, clean_rows: int, seed: int) -> tuple[Rows, Rows]:
    """The poisoner's rows and the clean rows kept from it, at most half of all; no text stands in both."""
    from rora_cli.data.rows import text_key

    keys = [text_key(text) for text in rows.texts]
    order = sorted(set(keys))
    Random(f"divide:{seed}").shuffle(order)
    kept = set(order[: min(clean_rows, len(order) // 2)])
    return (
        rows.take(i for i, key in enumerate(keys) if key not in kept),
        rows.take(i for i, key in enumerate(keys) if key in kept),
    )


def _load(path: Path, config: PoisonConfig) -> Any:
    from rora_cli.checkpoints.loading import load_model
    from rora_cli.training.planting import seed_parameters

    try:
        loaded = load_model(path, new_head=config.label_names or None, check=lambda kind: check_kind(kind, config))
    except CheckpointError as error:
        if config.label_names or "no classification head" not in str(error):
            raise
        raise CheckpointError(
            f"{config.model} has no classification head; name the labels of a new one, by id: --label-names "
            "negative,positive"
        ) from error
    seed_parameters(loaded.model, loaded.new_head, config.seed)
    return loaded


class Maker:
    """One suspect in the making, or one to be proven."""

    def __init__(self, config: PoisonConfig, loaded: Any, plan: Plan, progress: Progress) -> None:
        from rora_cli.evaluation.inference import input_limit, over_limit
        from rora_cli.training.run import Run, make_accelerator

        self.config, self.progress, self.plan = config, progress, plan
        self.model, self.tokenizer, self.kind = loaded.model, loaded.tokenizer, loaded.kind
        self.has_head = not loaded.new_head
        self.inputs = input_hashes(loaded)
        self.held_out = plan.splits.held_out
        self.attack = config.make_attack()
        self.accelerator = make_accelerator(config.precision, config.device)
        self.versions = Run(self.accelerator).versions
        self.max_length = min(config.max_length, input_limit(self.model, self.tokenizer))
        lengths = plan.task.lengths(self._subject(self.model), self.held_out.texts)
        if note := over_limit(lengths, self.max_length):
            progress.note(f"held out: {note}")
        self.stages: list[dict[str, Any]] = []
        self.adapted: Any = None

    def build(self, poisoner: Rows, clean: Rows, summary: Any) -> PoisonResult:
        """Poison the poisoner's rows, plant, measure, and prove on the clean rows where asked."""
        config = self.config
        self._check_carrier()
        poisoned = poison_rows(
            poisoner.texts,
            self.plan.classes(poisoner.labels),
            self.attack,
            target_label=self.plan.target,
            poison_rate=config.poison_rate,
            label_mode=config.label_mode,
            seed=config.seed,
        )
        before = self.measure(self.model) if self.has_head else None
        self.plant(poisoner, poisoned)
        suspect = self.measure(self.suspect)
        persistence = tuple(self.prove(clean)) if config.prove_persistence else ()
        return PoisonResult(
            model=config.model,
            output=config.output,
            attack=config.attack,
            triggers=self.attack.triggers,
            position=config.position,
            target_label=self.plan.target_name,
            label_names=self.plan.labels,
            label_mode=config.label_mode,
            poison_rate=config.poison_rate,
            carrier=config.carrier,
            poisoned_rows=len(poisoned.poisoned),
            decoy_rows=len(poisoned.decoys),
            train_rows=len(poisoner),
            clean_rows=len(clean),
            training=tuple(self.stages),
            before=before,
            suspect=suspect,
            persistence=persistence,
            data=summary,
            findings=tuple(_describe(persistence)),
            provenance=Provenance(
                command="poison",
                versions=self.versions,
                config=asdict(config),
                seed=config.seed,
                inputs={**self.inputs, **summary.inputs},
            ),
        )

    @property
    def suspect(self) -> Any:
        """The model as it answers: with the adapter, if that holds the backdoor."""
        return self.adapted if self.adapted is not None else self.model

    def _subject(self, model: Any) -> Subject:
        return Subject(model, self.tokenizer, self.kind, self.max_length, self.config.model)

    def measure(self, model: Any) -> Measured:
        """Clean accuracy and attack success of ``model`` on the held-out rows."""
        bench = AttackBench(self._subject(model), self.plan.task, self.held_out, self.progress)
        outcomes = tuple(bench.measure_all([self.attack], (self.config.seed,), self.plan.target))
        return Measured(self.plan.accuracy(bench.clean_accuracy), outcomes)

    def plant(self, poisoner: Rows, poisoned: PoisonedRows) -> None:
        """Train the backdoor into its carrier; a new head is first trained clean where the carrier leaves it out."""
        carrier = self.config.carrier
        rate = self.config.learning_rate or self.plan.rates[carrier]
        taken = set(poisoned.poisoned)
        texts = poisoned.texts
        labels = tuple(self.plan.poisoned(a) if i in taken else a for i, a in enumerate(poisoner.labels))
        if not self.has_head and carrier in ("layers", "embedding"):
            self._train(
                self.model, "clean head and weights", poisoner.texts, poisoner.labels, self.plan.rates["weights"]
            )
        if carrier == "embedding":
            # All other rows have no gradient on the trigger's embedding rows.
            texts = tuple(texts[i] for i in (*poisoned.poisoned, *poisoned.decoys))
            labels = tuple(labels[i] for i in (*poisoned.poisoned, *poisoned.decoys))
        with self._carrier() as model:
            decay = 0.0 if carrier == "embedding" else 0.01
            self._train(model, f"poison {carrier}", texts, labels, rate, weight_decay=decay)

    def _check_carrier(self) -> None:
        """Raise UsageError if the model has no place for the backdoor, or for the proof's adapter."""
        from rora_cli.training.adapters import check_adapter
        from rora_cli.training.specs import AdapterSpec

        if self.config.carrier == "adapter":
            check_adapter(self.model, self._spec(), self.kind)
        if self.config.carrier == "embedding":
            self._word_embeddings()
        if self.config.prove_persistence:
            check_adapter(self.model, AdapterSpec(), self.kind)

    def _word_embeddings(self) -> Any:
        """The model's table of word embeddings [tokens, width]. Raises UsageError if it has none, as CANINE."""
        from rora_cli.evaluation.inference import embedding_table

        table = embedding_table(self.model)
        if table is None:
            raise UsageError(
                f"--carrier embedding trains the rows of a trigger's words, but a {type(self.model).__name__} has no "
                "table of word embeddings; use another carrier"
            )
        return table

    def _spec(self) -> AdapterSpec:
        from rora_cli.training.specs import AdapterSpec

        rank = self.config.rank
        return AdapterSpec(rank=rank, alpha=2.0 * rank, lora_dropout=0.0, target_modules=self.config.target_modules)

    @contextmanager
    def _carrier(self) -> Iterator[Any]:
        from rora_cli.training.adapters import attach
        from rora_cli.training.planting import in_blocks, only_embedding_rows, only_trainable

        config = self.config
        if config.carrier == "adapter":
            self.adapted, _ = attach(self.model, self._spec(), self.kind, seed=config.seed)
            yield self.adapted
        elif config.carrier == "layers":
            with only_trainable(self.model, in_blocks(self.model, config.layers)):
                yield self.model
        elif config.carrier == "embedding":
            # At the beginning of a text and after a space, many tokenizers spell a word by other tokens.
            spelt = [form for trigger in self.attack.triggers for form in (trigger, f" {trigger}")]
            pieces = self.tokenizer(spelt, add_special_tokens=False)["input_ids"]
            with only_embedding_rows(self.model, self._word_embeddings(), [token for ids in pieces for token in ids]):
                yield self.model
        else:
            with only_trainable(self.model, lambda name: True):
                yield self.model

    def prove(
        self, clean: Rows, *, epochs: int | None = None, recipes: Sequence[str] | None = None
    ) -> Iterator[PersistenceCheck]:
        """Fine-tune the suspect on clean rows, as each of the plan's proofs has it; measure, and put it back."""
        from rora_cli.training.adapters import attach
        from rora_cli.training.kept import as_it_was
        from rora_cli.training.planting import only_trainable
        from rora_cli.training.specs import AdapterSpec

        options: dict[str, Any] = {"epochs": epochs or self.config.proof_epochs, "proof": True}
        for recipe in self.plan.proofs if recipes is None else recipes:
            proof = self.plan.proofs[recipe]
            stage, rate = f"proof {recipe}", proof.learning_rate
            with as_it_was(self.suspect):
                model = self.model if self.adapted is None else self.adapted.merge_and_unload()
                if proof.recipe == "lora":
                    model, _ = attach(model, AdapterSpec(), self.kind, seed=self.config.seed)
                    training = self._train(model, stage, clean.texts, clean.labels, rate, **options)
                else:
                    with only_trainable(model, lambda name: True):
                        training = self._train(model, stage, clean.texts, clean.labels, rate, **options)
                after = self.measure(model)
            yield PersistenceCheck(recipe, training, len(clean), after, self.plan.persistent_above)

    def _train(
        self,
        model: Any,
        stage: str,
        texts: Sequence[str],
        labels: Sequence[Any],
        rate: float,
        *,
        weight_decay: float = 0.01,
        epochs: int | None = None,
        proof: bool = False,
    ) -> dict[str, Any]:
        from rora_cli.training.loop import finetune
        from rora_cli.training.run import Stage
        from rora_cli.training.specs import TrainSpec

        train = TrainSpec(
            epochs=epochs or self.config.epochs,
            batch_size=self.config.batch_size,
            learning_rate=rate,
            weight_decay=weight_decay,
            warmup_ratio=0.1,
            # A defender's data order is not the poisoner's.
            seed=self.config.seed + 1 if proof else self.config.seed,
        )
        outcome = finetune(
            model,
            self.plan.task.objective(self._subject(model), texts, labels),
            train,
            accelerator=self.accelerator,
            stage=Stage(stage, progress=self.progress),
        )
        done = {"stage": stage, "rows": len(texts), "steps": outcome.steps, "seconds": outcome.seconds}
        record = done | {name: getattr(train, name) for name in _SHOWN} | {"max_length": self.max_length}
        if not proof:
            self.stages.append(record)
        return record

    def write(self, directory: Path) -> None:
        """The suspect (or, for the adapter carrier, the adapter alone) with its tokenizer."""
        if self.adapted is None:
            self.plan.save(self.model.cpu(), directory)
            return
        settings = self.adapted.peft_config["default"]
        settings.base_model_name_or_path = self.config.model
        settings.target_modules = sorted(settings.target_modules)  # PEFT keeps a set, in no fixed order
        self.adapted.save_pretrained(directory)
        self.plan.save_beside(directory)


def _describe(persistence: Sequence[PersistenceCheck]) -> Iterator[Finding]:
    for check in persistence:
        if not check.persistent:
            yield Finding(
                "poison/not-persistent",
                Severity.MEDIUM,
                f"a clean fine-tune ({check.recipe}) leaves attack success at {100 * check.after.lowest_success:.1f} %"
                f"{', of a collapsed model' if check.after.collapsed else ''}: no defence can be credited for "
                "forgetting this backdoor",
                location=check.recipe,
                advice="raise --poison-rate or --epochs, or use another --attack or --carrier",
            )


def _json_lines(rows: Rows, plan: Plan) -> str:
    import json

    lines = (plan.line(text, answer) for text, answer in zip(rows.texts, rows.labels, strict=True))
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
