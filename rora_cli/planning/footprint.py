"""The memory of a training step or a forward pass, counted on a model that has shapes and no numbers.

The step itself is run, forward and backward, on tensors without data (torch's meta device), and every storage that
operators make is counted from its making to its end. So temporaries of the backward pass, masks and casts count as they
do in the run, whatever the family; the same code serves 125 M and 70 B parameters.

What a block adds is the same for each from the second on, so models of two and of three blocks tell what a deep one
takes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from rora_cli.planning.allocator import Event, Peaks, peaks_of

#: Blocks of the two shorter models that stand for a deep one.
_FEW_BLOCKS = (2, 3)
#: Operators that ask a tensor for a number: the first, or in inference mode one of the others.
_ASKING = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.item.default,
    torch.ops.aten.is_nonzero.default,
)


@dataclass(frozen=True)
class Pass:
    """One forward pass and, in training, the backward pass after it.

    Attributes:
        rows, tokens: the shape of the batch.
        accumulated: whether gradients of earlier passes are there already.
        autocast: torch's name of the type that the pass computes in, beside weights of another; None for none.
        clean_strengthened: probability p of Cl on the outputs of the adapted layers' frozen weights.
        on_gpu: whether the kernels are an accelerator's, which keep less of attention and dropout than a CPU's.
        checkpointed: whether the model checkpoints; then the run sees to it that a CPU's heap keeps nothing that is
            freed (``freed_at_once``).
        reply: tokens at the end of each row that are a reply, which alone is learned; 0 for a model that has labels.
        taught: whether a reply is learned by a teacher's distributions, and not by its tokens.
    """

    rows: int
    tokens: int
    accumulated: bool = False
    autocast: str | None = None
    clean_strengthened: float = 0.0
    on_gpu: bool = False
    checkpointed: bool = False
    reply: int = 0
    taught: bool = False


def training_bytes(model: nn.Module, run: Pass, layers: Sequence[Any] = ()) -> int:
    """Bytes at the peak of a forward and backward pass beyond the weights: activations, temporaries and gradients.

    Args:
        model: on the meta device; what requires a gradient is trained.
        layers: its adapted layers, for Cl.
    """
    return _by_depth(model, lambda: _train(model, run, layers))


def forward_bytes(model: nn.Module, run: Pass) -> int:
    """Bytes at the peak of a forward pass without gradients, beyond the weights; ``model`` is on the meta device."""
    return _by_depth(model, lambda: _measure(model, run, training=False))


def work_bytes(model: nn.Module, work: Callable[[Callable[[], None]], Any], *, on_gpu: bool) -> int:
    """Bytes at the peak of ``work(begin)`` without gradients, beyond the weights of ``model`` on the meta device.

    What the work does before it calls ``begin`` is made ready: it counts as far as it lives on. Whatever truth the work
    asks a tensor for, the answer is yes: that all logits are finite.
    """
    run = Pass(1, 1, on_gpu=on_gpu)

    def measure() -> Peaks:
        counter, began = Counter(answer=1), [0]
        with _without_numbers(model, run), counter, _kernels(run), torch.inference_mode():
            work(lambda: began.append(len(counter.events)))
        return peaks_of(counter.events, (began[-1],), heap=not on_gpu)[1:]

    return _by_depth(model, measure)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, tied ones once."""
    return sum(t.nbytes for t in {id(t): t for t in (*model.parameters(), *model.buffers())}.values())


def _train(model: nn.Module, run: Pass, layers: Sequence[Any]) -> Peaks:
    present = {id(module) for module in model.modules()}
    with _frozen_outputs_dropped(model, [layer for layer in layers if id(layer.module) in present], run):
        return _measure(model, run, training=True)


def _measure(model: nn.Module, run: Pass, *, training: bool) -> Peaks:
    """Run the pass on the model without numbers; returns the peaks of its parts beyond the weights."""
    counter, was_training = Counter(), model.training
    with _without_numbers(model, run), counter, _kernels(run), _passed(model) as passed:
        trained = [p for p in model.parameters() if p.requires_grad] if training else []
        if run.accumulated:
            for weight in trained:
                weight.grad = torch.zeros_like(weight)
        model.train(training)
        try:
            with torch.set_grad_enabled(training):
                loss = _loss(model, run)
            parts = [len(counter.events)]
            if training:
                passed(lambda: parts.append(len(counter.events)))
                loss.backward()
                del loss
        finally:
            model.train(was_training)
            for weight in trained:
                weight.grad = None
    heap = not run.on_gpu and not run.checkpointed
    return peaks_of(counter.events, (parts[0], parts[-1]), heap=heap, trained=training)


@contextmanager
def _passed(model: nn.Module) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Inside, what is given to what this yields is called when the backward pass has left the first block."""
    entered: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        entered.extend(t for t in inputs[:1] if isinstance(t, Tensor) and t.requires_grad)

    handles = [stack[0].register_forward_pre_hook(keep) for stack in _stacks(model)[:1]]

    def when(call: Callable[[], None]) -> None:
        for tensor in entered[:1]:
            tensor.register_hook(lambda _: call())
        entered.clear()

    try:
        yield when
    finally:
        for handle in handles:
            handle.remove()


def _loss(model: nn.Module, run: Pass) -> Tensor:
    ids = torch.zeros((run.rows, run.tokens), dtype=torch.long)
    computed: AbstractContextManager[Any] = nullcontext()
    if run.autocast:
        computed = torch.autocast("cpu", getattr(torch, run.autocast))
    with computed:
        if run.reply:
            return _reply_loss(model, run, ids)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    flat = logits.float().flatten(0, -2)
    return functional.cross_entropy(flat, torch.zeros(len(flat), dtype=torch.long), reduction="sum")


def _reply_loss(model: Any, run: Pass, ids: Tensor) -> Tensor:
    """What the training of a model that replies minimises."""
    from rora_cli.tasks.causal.distillation import KEPT_TOKENS, partial_kl
    from rora_cli.tasks.causal.objective import assume_last_step, summed_cost

    assume_last_step(model)
    count = run.rows * run.reply
    # Places, where training has a mask: without numbers, nobody knows how many of a mask are true.
    wanted: Any = (torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.long))
    kept = min(KEPT_TOKENS, model.get_output_embeddings().weight.shape[0])
    teacher = torch.zeros((count, kept)) if run.taught else None
    likeliest = torch.zeros((count, kept), dtype=torch.long) if run.taught else torch.zeros(count, dtype=torch.long)

    def cost(logits: Tensor, some: slice) -> Tensor:
        if teacher is None:
            return functional.cross_entropy(logits, likeliest[some], reduction="sum")
        return partial_kl(teacher[some], likeliest[some], torch.log_softmax(logits, dim=-1)).sum()

    return summed_cost(model, ids, wanted, cost, {"attention_mask": torch.ones_like(ids)})


class Counter(TorchDispatchMode):
    """Writes down when storages that operators make inside come and go; ``answer`` is what a tensor without numbers
    says to who asks for one: 0, as of a mask where not all tokens are there, as in a padded batch."""

    def __init__(self, answer: int = 0) -> None:
        super().__init__()
        self._answer = answer
        self.events: list[Event] = []
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _ASKING and args[0].is_meta:
            return self._answer
        made = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in given:
                self._hold(storage)
        return made

    def _hold(self, storage: Any) -> None:
        if storage._cdata not in self._alive and storage.nbytes():
            number = self._alive[storage._cdata] = len(self.events) + 1
            self.events.append(Event(number, storage.nbytes()))
            weakref.finalize(storage, self._let_go, storage._cdata)

    def _let_go(self, address: int) -> None:
        self.events.append(Event(self._alive.pop(address), 0))


@contextmanager
def _kernels(run: Pass) -> Iterator[None]:
    """Inside, attention and dropout keep what the kernels of the device keep.

    The functions themselves are replaced: torch's function modes do not reach what is computed anew in a backward pass.
    """
    own = functional.scaled_dot_product_attention, functional.dropout

    def attention(query: Tensor, key: Tensor, value: Tensor, *given: Any, **named: Any) -> Tensor:
        """A CPU has no fused kernel that drops out."""
        dropped = named.get("dropout_p", given[1] if len(given) > 1 else 0.0)
        return (
            _fused_attention(query, key, value)
            if run.on_gpu or not dropped
            else own[0](query, key, value, *given, **named)
        )

    functional.scaled_dot_product_attention = attention
    if run.on_gpu:
        functional.dropout = _fused_dropout
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, functional.dropout = own


def _fused_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention that keeps its output and a number a row, and never the matrix [queries, keys]."""
    out: Tensor = _Attention.apply(query, key, value)
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _fused_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout whose mask is a byte a number."""
    return torch.native_dropout(input, p, True)[0] if training and p else input


@contextmanager
def _frozen_outputs_dropped(model: nn.Module, layers: Sequence[Any], run: Pass) -> Iterator[None]:
    """Cl as training has it; on an accelerator with the dropout of its kernels."""
    p = run.clean_strengthened
    if not p or not layers:
        yield
    elif run.on_gpu:
        drop = lambda _module, _inputs, output: functional.dropout(output, p)  # noqa: E731
        handles = [layer.module.get_base_layer().register_forward_hook(drop) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
    else:
        from rora_cli.training.regularisers import clean_strengthened

        with clean_strengthened(model, layers, p):
            yield


@contextmanager
def _without_numbers(model: nn.Module, run: Pass) -> Iterator[None]:
    """Inside, tensors are made without numbers.

    Autocast passes tensors on the meta device by. For it, torch's fake tensors take their place, which cost three times
    as much.
    """
    if not run.autocast:
        with torch.device("meta"):
            yield
        return
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with _as_fakes(model, mode), mode:
        yield


@contextmanager
def _as_fakes(model: nn.Module, mode: FakeTensorMode) -> Iterator[None]:
    """Inside, every parameter and buffer of ``model`` is a fake of a CPU tensor; tied ones stay tied."""
    places = [
        (tensors, name, tensor)
        for module in model.modules()
        for tensors in (module._parameters, module._buffers)
        for name, tensor in tensors.items()
        if tensor is not None
    ]
    fakes: dict[int, Any] = {}
    for tensors, name, tensor in places:
        if id(tensor) not in fakes:
            fake = FakeTensor(mode, tensor.detach(), torch.device("cpu"))
            trained = tensor.requires_grad
            fakes[id(tensor)] = nn.Parameter(fake, trained) if isinstance(tensor, nn.Parameter) else fake
        tensors[name] = fakes[id(tensor)]
    try:
        yield
    finally:
        for tensors, name, tensor in places:
            tensors[name] = tensor


def _by_depth(model: nn.Module, measure: Callable[[], Peaks]) -> int:
    """The peak of a deep model from two shorter ones. Each part of the pass is extended by itself: the peak of a deep
    model may lie in another part than a short one's."""
    stacks = _stacks(model)
    depth = max((len(stack) for stack in stacks), default=0)
    if depth <= sum(_FEW_BLOCKS):
        return round(max(measure()))
    few, more = (_cut(stacks, length, measure) for length in _FEW_BLOCKS)
    further = (depth - _FEW_BLOCKS[0]) / (_FEW_BLOCKS[1] - _FEW_BLOCKS[0])
    return round(max(a + (b - a) * further for a, b in zip(few, more, strict=True)))


def _stacks(model: nn.Module) -> list[nn.ModuleList]:
    """The lists of blocks, the longest lists that there are; an encoder-decoder has two."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    longest = max(map(len, lists), default=0)
    return [each for each in lists if len(each) == longest]


def _cut(stacks: Sequence[nn.ModuleList], length: int, measure: Callable[[], Peaks]) -> Peaks:
    """``measure()`` with all but the first blocks of each stack set aside."""
    whole = [dict(stack._modules) for stack in stacks]
    for stack in stacks:
        for name in list(stack._modules)[length:]:
            del stack._modules[name]
    try:
        return measure()
    finally:
        for stack, modules in zip(stacks, whole, strict=True):
            stack._modules.clear()
            stack._modules.update(modules)
