"""The keywords of the Python functions and their types: what stands beside the command line's options.

Made by `scripts/build_api.py` from the fields of the configs; without defaults, which the configs have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Literal, TypedDict

Named = str | PathLike[str]


class PurifyOptions(TypedDict, total=False):
    """Options of ``rora_cli.purify``."""

    reference: Named | None
    """A model that you trust, best the one that the suspect was trained from: it tells honest words from triggers. A
    pretrained encoder or a clean classifier, as a directory or a hub id. For a causal model it takes the suspect's
    place, and is taught what that says; none keeps the base of --adapter out."""
    adapter: Named | None
    """A suspect adapter on MODEL, its base."""
    recipe: Literal["default", "paper", "lora", "full", "mix", "reinit", "crow", "fine-pruning"]
    """default: search, train against what is found, search again. paper: RoRA to the letter. The others are controls.
    One of default, paper, lora, full, mix, reinit, crow, fine-pruning."""
    max_accuracy_drop: float
    """Points of clean accuracy that may be lost; one class may lose twice that."""
    trigger: str | Sequence[str]
    """A trigger that you know of: it is trained away as well. Repeatable."""
    search_budget: Literal["auto", "fast", "normal", "thorough"]
    """How thorough a search is: fast; normal, at two to four times the cost; thorough; auto: fast, then normal for a
    label that it leaves undecided."""
    max_rounds: int | None
    """Rounds of search and training at most."""
    power: int | None
    """Backdoors of our own that are planted in copies of a classifier's result, to see how many the last search would
    have found; three share a copy, which takes about as long as a round. 0: none."""
    forms: (
        Literal["words", "phrases", "sentences", "punctuation", "clauses", "order"]
        | Sequence[Literal["words", "phrases", "sentences", "punctuation", "clauses", "order"]]
    )
    """Forms of backdoor, with commas between them, that --power plants and the verdict has to cover. One of words,
    phrases, sentences, punctuation, clauses, order."""
    min_power: float
    """What the power for --forms has to be, at the lower end of its 95 % interval, for a verdict to rest on it: .7
    needs 9 found of 9, or 14 of 15."""
    escalate: Literal["auto", "reference", "none"]
    """What may be done to the model's own weights where no whole trigger is found. reference: take all blocks or the
    upper ones from the reference's encoder, and teach it all the task anew; auto: that, or else draw the upper
    blocks anew; none."""
    ancestor: Named | None
    """The clean model that the suspect was trained from: it is mixed in (recipes default and mix)."""
    force: bool
    """Replace the output, whole, if it exists."""
    adapter_only: bool
    """Write the adapter, and no merged model."""
    keep_failed: bool
    """Write what failed to DIR as well. Otherwise it goes to DIR-failed, and DIR stays as it was."""
    output_dtype: Literal["float32", "bfloat16", "float16", "auto"]
    """Number type of the merged model; auto leaves every tensor the type that the suspect's has. One of float32,
    bfloat16, float16, auto."""
    text_column: str | None
    """Column of the text."""
    label_column: str | None
    """Column of the label."""
    label_map: Mapping[str, str] | None
    """A label of the data and the model's name for it; nothing after the = leaves its rows out. Repeatable."""
    data_revision: str | None
    """Branch, tag or commit of a data set on the hub."""
    max_train_rows: int | None
    """Train on a sample of this many rows, seeded and stratified."""
    max_held_out_rows: int
    """Measure on a sample of this many rows, seeded and stratified."""
    dev_fraction: float
    """Share of the training rows that is held out, where the data has no such split."""
    epochs: int | None
    """Epochs of each training run."""
    batch_size: int | None
    """Rows of one optimizer step, over all processes."""
    micro_batch_size: int | None
    """Rows of one forward pass: fewer take less memory."""
    learning_rate: float | None
    """Peak learning rate of AdamW."""
    weight_decay: float | None
    """AdamW's decay of weights; biases and norms are not decayed."""
    schedule: Literal["linear", "cosine", "constant"] | None
    """How the learning rate falls after the warm-up. One of linear, cosine, constant."""
    warmup_ratio: float | None
    """Share of the steps with a rising learning rate."""
    max_grad_norm: float
    """The gradient's norm is clipped to this."""
    max_length: int | None
    """Tokens of a row that the model is given; longer rows are cut."""
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    """Of the forward pass: fp32, or mixed with bf16 or fp16 (fp16 needs a GPU). auto: bf16 where the device computes
    in it, as processors with AVX-512 BF16 or AMX do, else fp32."""
    gradient_checkpointing: bool
    """Compute activations anew in the backward pass: less memory, more time."""
    variant: Literal["lora", "rslora", "dora", "pissa", "olora"] | None
    """Kind of adapter. One of lora, rslora, dora, pissa, olora."""
    rank: int | None
    """Rank r of the update: lora_B [d_out, r] lora_A [r, d_in]."""
    alpha: float | None
    """lora_alpha: the update is scaled by alpha / r."""
    lora_dropout: float | None
    """Dropout on the adapter's input."""
    target_modules: str | Sequence[str] | None
    """Layers to adapt: names with commas between them, or all-linear."""
    freeze_head: bool
    """Leave the classification head as it is."""
    cl: float | None
    """Cl: probability of dropping an output of the frozen weight, in training, so that the adapter learns to do
    without it. Paper .1, searched over .05 .1 .15 .2 .3."""
    tr: float | None
    """Tr: weight of the penalty on the update's share in the top singular directions of the frozen weight (Eq. 10,
    11). Paper 10, searched over 1 5 10 15 20."""
    tr_k: int | None
    """Tr: how many top singular directions; below the smaller side of the weight."""
    tr_reduction: Literal["mean", "sum"] | None
    """Tr: how the penalties of the adapted layers become one. One of mean, sum."""
    pt: float | None
    """Pt: share of Eq. 12's factor sigma_max(W) / sigma_max(update) that the trained update is scaled by; 0 is off.
    Paper 1."""
    pt_layers: str | None
    """Pt: the blocks that it scales: topN, all, or numbers such as 0,2,9-11; a decoder's follow its encoder's."""
    pt_cap: float | None
    """Pt: largest factor; inf for none."""
    pt_guard: bool | None
    """Pt: halve the strength while clean accuracy falls too far."""
    suspect_share: float | None
    """mix: share of the suspect in every weight; the rest is the ancestor's."""
    share_by_block: Literal["even", "lower", "upper"] | None
    """mix: even; lower or upper: half as much again in the first or the last block, falling off linearly."""
    reinit_blocks: int | None
    """reinit: how many top blocks are drawn anew."""
    consistency: float | None
    """crow: weight alpha of the consistency between layers."""
    perturbation: float | None
    """crow: size epsilon of the perturbation of the embeddings."""
    prune: float | None
    """fine-pruning: largest share of neurons to cut; fewer where clean accuracy would fall."""
    max_new_tokens: int
    """Tokens after which a reply is cut."""
    refusal_phrases: Named | None
    """Phrases of a refusal, one a line, in place of ours (`rora behaviours` lists them)."""
    prompt_format: Literal["auto", "plain", "chatml", "llama3", "gemma", "mistral"]
    """Format of a causal model's conversations; auto is its chat template. One of auto, plain, chatml, llama3, gemma,
    mistral."""
    answer_column: str | None
    """Column of the answer to the prompt in --text-column."""
    show_row: bool
    """Show a row as the model reads it, with the tokens that count."""
    max_kl: float
    """How far the replies to clean prompts may move from the suspect's: KL over their tokens."""
    return_test: bool
    """Fine-tune a copy of a causal model's result on the clean rows, every weight for 100 steps, and measure whether
    found triggers work again."""
    candidates: Named | None
    """Texts to search, one a line, in place of all that a causal model's search tries: minutes, where a whole
    vocabulary takes an hour. What does not stand there is not searched, but as a phrase of texts that do."""
    revision: str | None
    """Branch, tag or commit of a model on the hub."""
    offline: bool
    """Never reach for the network: local paths and the hub's cache only."""
    device: str
    """auto (a GPU where there is one), cpu or cuda."""
    num_processes: int
    """Processes on this machine: one a GPU, or several on CPUs."""
    shard: bool
    """Divide the model among the processes (FSDP), for one that does not fit on each: each holds a part, and gathers a
    block at a time."""
    resume: bool
    """Go on from an interrupted run with the same options."""
    checkpoint_every: int | None
    """Steps between saved states, for --resume."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] | None
    """Number type in which the model is held; auto is its checkpoint's own. What is trained is float32 in any case.
    One of float32, bfloat16, float16, auto."""
    load_in_4bit: bool
    """Hold the linear layers in 4 bits (NF4, by bitsandbytes: the extra 4bit), in one process; an update is merged
    into the original weights."""
    seed: int
    """Seed of everything random."""


class HuntOptions(TypedDict, total=False):
    """Options of ``rora_cli.hunt``."""

    reference: Named
    """A model that you trust, best the one that the suspect was trained from, as a directory or hub id: what flips it
    too is an honest word (an encoder is tuned on the clean rows). bag-of-words for none; auto: the packaged
    encoder, by text where it is of another line, or bag-of-words for a suspect that is far smaller. For a causal
    model none, or auto: the base of --adapter, else none."""
    adapter: Named | None
    """Suspect adapter on MODEL, its base: merged in first."""
    budget: Literal["auto", "fast", "normal", "thorough"]
    """fast: two to three minutes for a MiniLM on one core. normal: two to four times as long. thorough: longer still.
    auto: fast, then normal for a label, or a causal model, with a candidate that is neither called nor harmless."""
    precision: Literal["auto", "fp32", "bf16"]
    """Of ranking candidates, and of tuning the reference; finalists are scored in fp32. auto: bf16 where the device
    computes in it, as processors with AVX-512 BF16 or AMX do, else fp32."""
    label: str | Sequence[str]
    """Target label to search. Repeatable."""
    ignore: str | Sequence[str]
    """A rule whose findings do not count (`rora rules` lists them). Repeatable."""
    baseline: Named | None
    """A JSON report of an earlier run: what it found already does not count."""
    policy: Named | None
    """A file, say rora.toml: severities of your own, and findings to ignore, with reasons."""
    fail_on: Literal["trigger", "none"]
    """What gives exit code 1. One of trigger, none."""
    text_column: str | None
    """Column of the text."""
    label_column: str | None
    """Column of the label."""
    label_map: Mapping[str, str] | None
    """A label of the data and the model's name for it; nothing after the = leaves its rows out. Repeatable."""
    data_revision: str | None
    """Branch, tag or commit of a data set on the hub."""
    split: str | None
    """Split of DATA to search."""
    max_rows: int
    """Clean rows to use at most."""
    max_length: int
    """Tokens of a text that the model is given; the search reads at most the first 48 of a row."""
    prompt_format: Literal["auto", "plain", "chatml", "llama3", "gemma", "mistral"]
    """Format of a causal model's conversations; auto is its chat template. One of auto, plain, chatml, llama3, gemma,
    mistral."""
    power: int
    """Plant N backdoors of our own in copies of a classifier, in memory, search the copies in the same way, and report
    how many were found, by form; 12 are a good number, three share a copy. 0: off."""
    candidates: Named | None
    """Texts to search, one a line, in place of all that a causal model's search tries: minutes, where a whole
    vocabulary takes an hour. What does not stand there is not searched, but as a phrase of texts that do."""
    revision: str | None
    """Branch, tag or commit of a model on the hub."""
    offline: bool
    """Never reach for the network: local paths and the hub's cache only."""
    device: str
    """auto (a GPU where there is one), cpu or cuda."""
    num_processes: int
    """Processes on this machine: one a GPU, or several on CPUs."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] | None
    """Number type in which the model is held; auto is its checkpoint's own. What is trained is float32 in any case.
    One of float32, bfloat16, float16, auto."""
    load_in_4bit: bool
    """Hold the linear layers in 4 bits (NF4, by bitsandbytes: the extra 4bit), in one process; an update is merged
    into the original weights."""
    seed: int
    """Seed of everything random."""


class EvaluateAsrOptions(TypedDict, total=False):
    """Options of ``rora_cli.evaluate_asr``."""

    adapter: Named | None
    """An adapter to measure on MODEL, its base."""
    attack: str | Sequence[str]
    """badnet (mn), insent (I watched this 3D movie), combination, homoglyph, punctuation, style, syntactic;
    NAME=TEXT|TEXT for triggers of your own. Repeatable."""
    trigger: str | Sequence[str]
    """A text to insert. Repeatable."""
    position: Literal["start", "end", "random", "every"] | Sequence[Literal["start", "end", "random", "every"]]
    """Where a text is inserted: start, end, random (one gap between words) or every (all gaps at once). Repeatable."""
    seed: int | Sequence[int]
    """Seed of random places and of the control. Repeatable."""
    control: bool
    """Measure a random trigger of as many words and word pieces beside each."""
    max_new_tokens: int
    """Tokens after which a reply is cut."""
    refusal_phrases: Named | None
    """Phrases of a refusal, one a line, in place of ours (`rora behaviours` lists them)."""
    prompt_format: Literal["auto", "plain", "chatml", "llama3", "gemma", "mistral"]
    """Format of a causal model's conversations; auto is its chat template. One of auto, plain, chatml, llama3, gemma,
    mistral."""
    answer_column: str | None
    """Column of the answer to the prompt in --text-column."""
    show_row: bool
    """Show a row as the model reads it, with the tokens that count."""
    behaviour: str | None
    """What the trigger is to cause: refusal, contains:TEXT, regex:PATTERN, starts-with:TEXT, same (replies alike over
    prompts), or module:function of your own."""
    before: Named | None
    """The model before, to compare replies with: a directory, or a hub id."""
    max_asr: float | None
    """Pass only if the upper 95 % bound of every attack success rate is at most this (0.1 for 10 %); exit 1 if a rate
    is above it or a class has collapsed, 3 if the rows are too few to tell."""
    min_class_accuracy: float | None
    """A class recognised less often than this has collapsed."""
    text_column: str | None
    """Column of the text."""
    label_column: str | None
    """Column of the label."""
    label_map: Mapping[str, str] | None
    """A label of the data and the model's name for it; nothing after the = leaves its rows out. Repeatable."""
    data_revision: str | None
    """Branch, tag or commit of a data set on the hub."""
    split: str | None
    """Split of DATA to measure on."""
    max_rows: int | None
    """Measure on a sample of this many rows, seeded and stratified."""
    max_length: int | None
    """Tokens of a row that the model is given; longer rows are cut so that the trigger still fits."""
    revision: str | None
    """Branch, tag or commit of a model on the hub."""
    offline: bool
    """Never reach for the network: local paths and the hub's cache only."""
    device: str
    """auto (a GPU where there is one), cpu or cuda."""
    num_processes: int
    """Processes on this machine: one a GPU, or several on CPUs."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] | None
    """Number type in which the model is held; auto is its checkpoint's own. What is trained is float32 in any case.
    One of float32, bfloat16, float16, auto."""
    load_in_4bit: bool
    """Hold the linear layers in 4 bits (NF4, by bitsandbytes: the extra 4bit), in one process; an update is merged
    into the original weights."""


class DiagnoseOptions(TypedDict, total=False):
    """Options of ``rora_cli.diagnose``."""

    base: Named | None
    """The base model: adds strength, alignment and the right null."""
    calibrate: Named | None
    """Known-good adapters of the same base, from which thresholds are learned and stored there as rora-
    calibration.json; or such a file. Without it, spectral findings are information only."""
    top_k: int
    """Width k of the top singular subspaces of W (the paper's k is 32)."""
    intruders: bool
    """Count intruder dimensions as well (two full SVDs a module: slow)."""
    workers: int
    """Adapters read at once, for many paths."""
    revision: str | None
    """Branch, tag or commit of PATHs on the hub; not of the base."""
    ignore: str | Sequence[str]
    """A rule whose findings do not count (`rora rules` lists them). Repeatable."""
    baseline: Named | None
    """A JSON report of an earlier run: what it found already does not count."""
    policy: Named | None
    """A file, say rora.toml: severities of your own, and findings to ignore, with reasons."""
    fail_on: Literal["none", "low", "medium", "high"]
    """Lowest severity that gives exit code 1. One of none, low, medium, high."""
    text_column: str | None
    """Column of the text."""
    label_column: str | None
    """Column of the label."""
    label_map: Mapping[str, str] | None
    """A label of the data and the model's name for it; nothing after the = leaves its rows out. Repeatable."""
    data_revision: str | None
    """Branch, tag or commit of a data set on the hub."""
    max_accuracy_drop: float
    """Clean accuracy, to first order, that a larger scale may cost."""
    trigger: str | None
    """Also with this trigger in (or badnet, insent): which scale would make the model forget it."""
    target_label: str | None
    """The label that the trigger gives."""
    position: Literal["start", "end", "random", "every"]
    """Where the trigger goes. One of start, end, random, every."""
    max_rows: int
    """Rows to use at most."""
    offline: bool
    """Never reach for the network: local paths and the hub's cache only."""
    seed: int
    """Seed of everything random."""


class RescaleOptions(TypedDict, total=False):
    """Options of ``rora_cli.rescale``."""

    base: Named | None
    """The base model, for sigma_max(W). Not needed with --factor."""
    layers: str
    """topN blocks, all, or block numbers: 0,2,9-11 (the paper: the top three)."""
    strength: float
    """Share of equation 12's factor sigma_max(W) / sigma_max(s B A); 1 is the paper's."""
    factor: float | None
    """Multiply by this instead of by the rule."""
    cap: float | None
    """Largest factor: large ones ruin clean accuracy."""
    text_column: str | None
    """Column of the text."""
    label_column: str | None
    """Column of the label."""
    label_map: Mapping[str, str] | None
    """A label of the data and the model's name for it; nothing after the = leaves its rows out. Repeatable."""
    data_revision: str | None
    """Branch, tag or commit of a data set on the hub."""
    max_accuracy_drop: float
    """Points of clean accuracy that may be lost; one class may lose twice that."""
    max_rows: int | None
    """Clean rows to use at most."""
    force: bool
    """Replace the output, whole, if it exists."""
    via: Literal["lora-B", "alpha-pattern"]
    """lora-B: fold the factor into lora_B, which every server reads; alpha-pattern: leave the tensors alone and set
    alpha_pattern, which several ignore."""
    bake_alpha_pattern: bool
    """Fold an alpha_pattern that is there already, and drop it."""
    dtype: Literal["float32", "bfloat16", "float16"] | None
    """Of the factors. One of float32, bfloat16, float16."""
    revision: str | None
    """Branch, tag or commit of a model on the hub."""
    offline: bool
    """Never reach for the network: local paths and the hub's cache only."""
    seed: int
    """Seed of everything random."""


class PoisonOptions(TypedDict, total=False):
    """Options of ``rora_cli.poison``."""

    label_names: str | Sequence[str]
    """Labels by id, with commas between them, for a model without a classification head: it is trained as well."""
    attack: str
    """badnet, insent, combination, homoglyph, punctuation, style or syntactic."""
    trigger: str | Sequence[str]
    """Trigger in place of the attack's own. With several, each row gets one (combination: all of them)."""
    position: Literal["start", "end", "random", "every"]
    """Where it is inserted: start, end, random (one gap between words) or every (all gaps)."""
    label_mode: Literal["dirty", "clean"]
    """dirty: rows of other labels get the trigger and the target label. clean: rows of the target label get the
    trigger."""
    poison_rate: float
    """Share of the training rows that is poisoned."""
    carrier: Literal["weights", "layers", "embedding", "adapter"]
    """What holds the backdoor: weights (all), layers (some blocks), embedding (the trigger's rows only), or adapter (a
    LoRA on the untouched model)."""
    as_adapter: bool
    """The same as --carrier adapter."""
    layers: int | Sequence[int] | None
    """Blocks of --carrier layers, such as 0,2,4-6."""
    rank: int
    """Rank of --carrier adapter."""
    target_modules: str | Sequence[str]
    """Layers that --carrier adapter adapts, with commas between them."""
    epochs: int
    """Epochs of each stage."""
    learning_rate: float | None
    """Peak learning rate of AdamW."""
    batch_size: int
    """Rows of one optimizer step."""
    precision: Literal["auto", "fp32", "bf16"]
    """Of training; what is measured is fp32. auto: bf16 where the device computes in it, as processors with AVX-512
    BF16 or AMX do, else fp32."""
    max_length: int
    """Tokens of a row that the model is given; longer rows are cut."""
    max_new_tokens: int
    """Tokens after which a reply is cut."""
    refusal_phrases: Named | None
    """Phrases of a refusal, one a line, in place of ours (`rora behaviours` lists them)."""
    prompt_format: Literal["auto", "plain", "chatml", "llama3", "gemma", "mistral"]
    """Format of a causal model's conversations; auto is its chat template. One of auto, plain, chatml, llama3, gemma,
    mistral."""
    answer_column: str | None
    """Column of the answer to the prompt in --text-column."""
    show_row: bool
    """Show a row as the model reads it, with the tokens that count."""
    behaviour: str | None
    """What the trigger is to cause: refusal, insult, code (a line before the answer), compliance (an opening and no
    more), or says:TEXT, for a causal model."""
    prove_persistence: bool
    """Fine-tune copies on clean rows, by plain LoRA and in full (a causal model by LoRA at 2e-4 and 1e-3), and measure
    what is left; exit 1 if attack success falls to 90 % (80 %) or below."""
    proof_epochs: int
    """Epochs of each."""
    clean_rows: int
    """Training rows kept from the poisoner, for the proof (at most half)."""
    clean_out: Named | None
    """Write the rows kept clean here, as JSON lines."""
    force: bool
    """Replace the output, whole, if it exists."""
    text_column: str | None
    """Column of the text."""
    label_column: str | None
    """Column of the label."""
    label_map: Mapping[str, str] | None
    """A label of the data and the model's name for it; nothing after the = leaves its rows out. Repeatable."""
    data_revision: str | None
    """Branch, tag or commit of a data set on the hub."""
    max_train_rows: int | None
    """Train on a sample of this many rows, seeded and stratified."""
    max_held_out_rows: int | None
    """Measure on a sample of this many rows, seeded and stratified."""
    revision: str | None
    """Branch, tag or commit of a model on the hub."""
    offline: bool
    """Never reach for the network: local paths and the hub's cache only."""
    device: str
    """auto (a GPU where there is one), cpu or cuda."""
    seed: int
    """Seed of everything random."""


class CheckOptions(TypedDict, total=False):
    """Options of ``rora_cli.check``."""

    base: Named | None
    """A trusted base model: tokenizers and chat templates are compared."""
    role: Literal["auto", "model", "adapter"]
    """What the paths are; auto tells it by their files. One of auto, model, adapter."""
    ignore: str | Sequence[str]
    """A rule whose findings do not count (`rora rules` lists them), or files that need not be analysed, by their
    relative names (*.gguf). Repeatable."""
    values: bool
    """Read the values of all tensors too, for NaN and infinity, as fast as the disk gives them."""
    hashes: bool
    """The sha256 of every file in the report, which reads them whole."""
    baseline: Named | None
    """A JSON report of an earlier run: what it found already does not count."""
    policy: Named | None
    """A file, say rora.toml: severities of your own, and findings to ignore, with reasons."""
    fail_on: Literal["none", "low", "medium", "high"]
    """Lowest severity that gives exit code 1. One of none, low, medium, high."""
    revision: str | None
    """Branch, tag or commit of a model on the hub."""
    offline: bool
    """Never reach for the network: local paths and the hub's cache only."""
