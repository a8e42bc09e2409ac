"""One adapter fine-tune with Cl, Tr and Pt as the settings say: the paper's recipe, and plain LoRA as its control."""

from __future__ import annotations

from rora_cli.defences.bench import Bench, Cleansed
from rora_cli.defences.corrections import rescale
from rora_cli.defences.spectra import update_spectra
from rora_cli.training.adapters import to_plain_lora


def check(bench: Bench) -> None:
    """Raise UsageError if no adapter of the settings fits on the suspect."""
    bench.check_adapter()


def cleanse(bench: Bench) -> Cleansed:
    """Train an adapter with Cl and Tr, then rescale it (Pt)."""
    model, layers = bench.attach()
    bench.train(model, layers, stage="train")
    to_plain_lora(model, layers)
    trained = update_spectra(layers)
    rescale(bench, model, layers, stage="rescale")
    return bench.not_assessed(model, layers, trained)
