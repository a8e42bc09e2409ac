"""Measures the corrected thresholds (``spectral.thresholds``) on rows, by one backward pass through base plus adapter.

For a module's output o and the margin z of a row, c = dz/do at every token is the margin direction. The contribution of
the update to z is the sum of c^T DeltaW x over the tokens. This is exact for a single layer, and first order around the
adapter as it is inside of a net.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from rora_cli.attacks.triggers import insert, named_or_text
from rora_cli.checkpoints.adapters import AdapterModule, read_adapter
from rora_cli.checkpoints.loading import LoadedModel, load_classifier
from rora_cli.checkpoints.preflight import Inspection
from rora_cli.checkpoints.reader import TensorReader
from rora_cli.commands.diagnose.config import DiagnoseConfig
from rora_cli.data.sources import load_rows
from rora_cli.errors import CheckpointError, DataError
from rora_cli.evaluation.inference import batches_for, count_tokens, embedding_table, input_limit
from rora_cli.progress import Progress
from rora_cli.results.margins import Alignment, Margins, ModuleMargins, Step
from rora_cli.spectral import thresholds
from rora_cli.spectral.decomposition import top_singular
from rora_cli.tasks.classification.labels import find_label
from rora_cli.training.adapters import is_linear

_TOKENS_PER_BATCH = 2048
_SHOWN_STEPS = 200

#: Name of a module -> (input, output) of its calls in one forward pass.
_Calls = dict[str, list[tuple[Tensor, Tensor]]]


@dataclass
class _Layer:
    """One module's W and DeltaW [d_out, d_in], and c^T W x, c^T DeltaW x and norms of rows, one tensor [n] a batch."""

    module: AdapterModule
    W: Tensor
    delta: Tensor
    sigma_W: float
    sigma_delta: float
    of_W: list[Tensor] = field(default_factory=list)
    of_delta: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)

    def add(self, calls: Sequence[tuple[Tensor, Tensor]], rows: int) -> None:
        """Add the rows of a batch: the sum over the calls (c [n, tokens, d_out], x [n, tokens, d_in])."""
        zero = torch.zeros(rows, dtype=torch.float64)
        self.of_W.append(sum((((x @ self.W.T) * c).sum(dim=(1, 2)).double() for c, x in calls), zero))
        self.of_delta.append(sum((((x @ self.delta.T) * c).sum(dim=(1, 2)).double() for c, x in calls), zero))
        self.norms.append(sum(((c.norm(dim=2) * x.norm(dim=2)).sum(dim=1).double() for c, x in calls), zero))

    def take(self) -> tuple[Tensor, Tensor, Tensor]:
        """(a_W, a_Delta, contribution of DeltaW) [n] of the rows since the last call."""
        of_W, of_delta, norms = (torch.cat(parts) for parts in (self.of_W, self.of_delta, self.norms))
        self.of_W, self.of_delta, self.norms = [], [], []
        norms = norms.clamp_min(1e-300)
        return of_W / (norms * self.sigma_W), of_delta / (norms * self.sigma_delta), of_delta


def measure_margins(config: DiagnoseConfig, inspection: Inspection, base: Inspection, progress: Progress) -> Margins:
    """Run the model on clean rows and, if the user names a trigger, on triggered rows.

    Raises CheckpointError if preflight refuses the model or no module can be measured, DataError for unusable rows, and
    UsageError for an unknown label.
    """
    loaded = load_classifier(base.path, adapter=inspection.path)
    rows, summary = load_rows(
        config.clean or "", label_names=loaded.label_names, max_rows=config.max_rows, seed=config.seed,
        reading=config, allow_download=not config.offline,
    )  # fmt: skip
    for note in summary.notes:
        progress.note(note)
    layers = list(_layers(loaded.model, inspection, base))
    if not layers:
        raise CheckpointError("no adapted linear module has a weight in the base: there are no margins to measure.")
    with progress.phase("margins"):
        clean = _pass(loaded, layers, rows.texts, rows.labels, None)
        triggered, target = None, None
        if config.trigger is not None:
            target = find_label(config.target_label or "", loaded.label_names)
            texts, labels = _triggered(config, rows.texts, rows.labels, target)
            triggered = _pass(loaded, layers, texts, labels, target)
    sides = triggered.rows if triggered else [None] * len(layers)
    modules = tuple(_module(*parts) for parts in zip(layers, clean.rows, sides, strict=True))
    return _summary(config, modules, clean, triggered, None if target is None else loaded.label_names[target])


def _layers(model: nn.Module, inspection: Inspection, base: Inspection) -> Iterator[_Layer]:
    adapter = read_adapter(inspection, TensorReader(base))
    if adapter.base is None:
        return
    present = dict(model.named_modules())
    for module in adapter.modules:
        name = adapter.base.find(module.name, module.parameter)
        if name is None or module.name not in present or module.expert is not None:
            continue
        if not is_linear(present[module.name]):  # an embedding, a convolution or a router does more than y = W x
            continue
        W = adapter.base.weight(name, module.shape, fan_in_fan_out=module.fan_in_fan_out).float()
        update = module.update(W)
        sigma = float(update.singular_values()[0])
        if sigma > 0:
            yield _Layer(module, W, update.delta_weight(), top_singular(W, 1).sigma_max, sigma)


@dataclass(frozen=True)
class _Rows:
    """``margins`` [n] of the model as it is, ``contribution`` [n] of all updates; (a_W [n], a_Delta [n]) by layer."""

    margins: Tensor
    contribution: Tensor
    rows: list[tuple[Tensor, Tensor]]


def _pass(
    loaded: LoadedModel, layers: Sequence[_Layer], texts: Sequence[str], labels: Sequence[int], target: int | None
) -> _Rows:
    """One forward and backward pass over all rows; a margin is the label's logit minus the target's or runner-up's."""
    seen: _Calls = defaultdict(list)
    handles = [_hook(loaded.model, layer.module.name, seen) for layer in layers]
    embeddings = embedding_table(loaded.model)
    if embeddings is None:  # any weight below the adapted layers will do
        embeddings = next(loaded.model.parameters())
    embeddings.requires_grad_(True)  # autograd builds a graph only if something requires a gradient
    limit = input_limit(loaded.model, loaded.tokenizer)
    margins: list[Tensor] = []
    try:
        lengths = [min(n, limit) for n in count_tokens(loaded.tokenizer, texts)]
        for batch in batches_for(loaded.model, lengths, _TOKENS_PER_BATCH):
            rows = [texts[i] for i in batch], [labels[i] for i in batch]
            margins.append(_batch(loaded, layers, seen, rows, target, limit))
    finally:
        embeddings.requires_grad_(False)
        for handle in handles:
            handle.remove()
    taken = [layer.take() for layer in layers]
    contribution = torch.stack([part for _, _, part in taken]).sum(dim=0)
    return _Rows(torch.cat(margins), contribution, [(a, b) for a, b, _ in taken])


def _hook(model: nn.Module, name: str, seen: _Calls) -> Any:
    """Record every call of a module: ALBERT's blocks share modules, and DeBERTa's keys also transform positions.

    The model goes on with a copy of the output: DeBERTa divides one in place, and its gradient would be the quotient's.
    """

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not output.requires_grad:
            output.requires_grad_()
        output.retain_grad()
        seen[name].append((inputs[0].detach(), output))
        return output.clone()

    return model.get_submodule(name).register_forward_hook(keep)


def _batch(
    loaded: LoadedModel,
    layers: Sequence[_Layer],
    seen: _Calls,
    rows: tuple[list[str], list[int]],
    target: int | None,
    limit: int,
) -> Tensor:
    texts, labels = rows
    inputs = loaded.tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    with torch.enable_grad():
        seen.clear()
        logits = loaded.model(**inputs).logits
        if len(texts) > 1 and not _rows_come_first(seen, inputs["input_ids"].shape):
            alone = [([text], [label]) for text, label in zip(texts, labels, strict=True)]
            return torch.cat([_batch(loaded, layers, seen, row, target, limit) for row in alone])
        index = torch.arange(len(labels))
        own = logits[index, torch.tensor(labels)]
        if target is None:
            others = logits.detach().clone()
            others[index, torch.tensor(labels)] = -torch.inf
            margin = own - logits[index, others.argmax(dim=1)]
        else:
            margin = own - logits[:, target]
        margin.sum().backward()
    for layer in layers:
        calls = [(c.grad, x) for x, c in seen[layer.module.name] if c.grad is not None]
        layer.add([(_by_token(c, len(labels)), _by_token(x, len(labels))) for c, x in calls], len(labels))
    loaded.model.zero_grad(set_to_none=True)
    return margin.detach().double()


def _rows_come_first(seen: _Calls, shape: Sequence[int]) -> bool:
    """Whether the first axis of every call is that of the rows [n, tokens], so that each row has its own part of it.

    It is not in DeBERTa's table of relative positions, in experts and in XLNet. The shape does not tell if there are as
    many rows as tokens.
    """
    return shape[0] != shape[1] and all(o.shape[0] == shape[0] for calls in seen.values() for _, o in calls)


def _by_token(tensor: Tensor, rows: int) -> Tensor:
    """``tensor`` as [n, tokens, d]; the input of a head [n, d] gets one token."""
    return tensor.float().reshape(rows, -1, tensor.shape[-1])


def _triggered(
    config: DiagnoseConfig, texts: Sequence[str], labels: Sequence[int], target: int
) -> tuple[list[str], list[int]]:
    trigger, rng = named_or_text(config.trigger or "").text, Random(config.seed)
    kept = [(text, label) for text, label in zip(texts, labels, strict=True) if label != target]
    if not kept:
        raise DataError(f"every row of {config.clean} has the target label: a trigger needs rows of other labels.")
    return [insert(text, trigger, config.position, rng) for text, _ in kept], [label for _, label in kept]


def _module(layer: _Layer, clean: tuple[Tensor, Tensor], triggered: tuple[Tensor, Tensor] | None) -> ModuleMargins:
    keeps = thresholds.largest_that_keeps(*clean)
    common: dict[str, Any] = {
        "name": layer.module.label,
        "strength": layer.sigma_delta / layer.sigma_W,
        "clean_base": _alignment(clean[0]),
        "clean_update": _alignment(clean[1]),
        "keeps_below": keeps if keeps is None or keeps < float("inf") else None,
    }
    if triggered is None:
        return ModuleMargins(**common)
    return ModuleMargins(
        **common,
        triggered_base=_alignment(triggered[0]),
        triggered_update=_alignment(triggered[1]),
        flips_above=thresholds.sufficient_to_forget(*triggered),
        needs_above=thresholds.necessary_to_forget(*triggered),
        paper_threshold_assumed=thresholds.paper_threshold(float((-triggered[0]).min()), float(triggered[1].min())),
        window_is_empty=thresholds.window(triggered, clean).is_empty,
    )


def _alignment(values: Tensor) -> Alignment:
    return Alignment(float(values.min()), float(values.median()), float(values.max()))


def _summary(
    config: DiagnoseConfig,
    modules: tuple[ModuleMargins, ...],
    clean: _Rows,
    triggered: _Rows | None,
    target: str | None,
) -> Margins:
    accuracy = thresholds.share_positive_in_a_net(clean.margins, clean.contribution)
    at_one = float((clean.margins > 0).double().mean())
    harmful = (b for b, v in zip(accuracy.breaks, accuracy.values[1:], strict=True)
               if b > 1 and v < at_one - config.allowed_drop - 1e-12)  # fmt: skip
    attack: tuple[Step, ...] = ()
    if triggered is not None:
        safe_share = thresholds.share_positive_in_a_net(triggered.margins, triggered.contribution)
        attack = tuple(Step(s.scale, 1 - s.share) for s in _steps(safe_share))
    note = "first order around the adapter as it is, so local: exact only for a single layer"
    if triggered is not None:
        note += f"; {thresholds.WHY_NOT_A_GUARANTEE}; {thresholds.PAPER_ASSUMPTION}"
    return Margins(
        clean_rows=len(clean.margins),
        triggered_rows=0 if triggered is None else len(triggered.margins),
        trigger=config.trigger,
        target_label=target,
        max_accuracy_drop=config.max_accuracy_drop,
        accuracy_at_one=at_one,
        largest_scale=next(harmful, None),
        accuracy=_steps(accuracy),
        attack_success=attack,
        modules=modules,
        note=note,
    )


def _steps(function: thresholds.StepFunction) -> tuple[Step, ...]:
    """The steps, at most ``_SHOWN_STEPS`` of them, spread evenly over their number."""
    pairs = list(zip((0.0, *function.breaks), function.values, strict=True))
    stride = max(1, -(-len(pairs) // _SHOWN_STEPS))
    return tuple(Step(scale, share) for scale, share in pairs[::stride])
