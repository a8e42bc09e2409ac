"""A trusted GGUF file as a checkpoint of safetensors: rora reads no other kind of weights."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from rora_cli.checkpoints.sanitise import isolated, quiet
from rora_cli.kinds import CAUSAL_LM


def unpack(path: Path, directory: Path) -> None:
    """Write the causal model of the GGUF file at ``path``, with its tokenizer, into ``directory``, in float32.

    The file is not inspected: give one whose hash is known. Needs the library gguf.
    """
    import torch
    import transformers

    # transformers draws a bar of its own while it converts, whatever it is told.
    with isolated(), quiet(), redirect_stderr(StringIO()):
        auto: Any = getattr(transformers, CAUSAL_LM.auto_class)
        model: Any = auto.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True)
        # The weights are numbers of float32 by now, but transformers refuses to save a model that it calls quantised.
        model.hf_quantizer, model.is_quantized = None, False
        del model.config.quantization_config
        model.save_pretrained(directory)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        tokenizer.save_pretrained(directory)
