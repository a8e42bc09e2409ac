"""What a path means, what stands in place of files, what pickles would import, and advice that works when followed."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rora_cli import stand_ins
from rora_cli.checkpoints import conversion, other_files
from rora_cli.checkpoints.layouts import checkpoints_in
from rora_cli.checkpoints.pickles import PickleReader
from rora_cli.checkpoints.preflight import inspect, require_loadable
from rora_cli.checkpoints.walk import look_at_file
from rora_cli.commands import check
from rora_cli.data.tables import read_table
from rora_cli.errors import CheckpointError, DataError, ExitCode
from rora_cli.results.check import CheckResult
from tests.hostile import corpus


def checked(*paths: Path, **options: Any) -> tuple[CheckResult, ExitCode]:
    result = check.run(check.CheckConfig(paths=tuple(map(str, paths)), **options))
    return result, check.exit_code(result, options.get("fail_on", "medium"))


def rules_of(result: CheckResult) -> set[str]:
    return {f.rule_id for f in result.findings}


# ---- what a path means ----


def test_the_folders_of_the_hubs_cache_are_their_snapshot(tmp_path: Path) -> None:
    snapshot = corpus.make("hub-cache", tmp_path)
    repository = snapshot.parent.parent
    for path in (repository, snapshot, tmp_path):
        result, code = checked(path)
        assert (code, [c.path for c in result.checkpoints]) == (ExitCode.OK, [str(snapshot)])
    require_loadable(inspect(repository, role="model"))
    (repository / "snapshots" / ("b" * 40)).mkdir()
    with pytest.raises(CheckpointError, match="2 snapshots"):
        inspect(repository)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert checkpoints_in(repository) == [snapshot]
    (repository / "refs" / "main").write_text("../../../secret")
    with pytest.raises(CheckpointError, match="2 snapshots"):
        inspect(repository)


def test_named_adapters_are_checked_each(tmp_path: Path) -> None:
    corpus.valid_adapter(tmp_path / "a" / "reward")
    corpus.valid_adapter(tmp_path / "a" / "policy")
    result, code = checked(tmp_path / "a")
    assert code == ExitCode.OK and [Path(c.path).name for c in result.checkpoints] == ["policy", "reward"]
    with pytest.raises(CheckpointError, match=r"name one of them, for example .*policy"):
        inspect(tmp_path / "a", role="adapter")
    corpus.write_json(tmp_path / "a" / "adapter_config.json", corpus.adapter_config())
    corpus.write_safetensors(tmp_path / "a" / "adapter_model.safetensors", corpus.adapter_tensors())
    result, code = checked(tmp_path / "a")
    assert code == ExitCode.OK and len(result.checkpoints) == 3
    assert rules_of(result) == {"file/other-checkpoint"}
    hidden = {"base_model.model.bert.pooler.dense.weight": np.ones((8, 8))}
    corpus.write_safetensors(tmp_path / "a" / "policy" / "adapter_model.safetensors", corpus.adapter_tensors() | hidden)
    assert checked(tmp_path / "a")[1] == ExitCode.FINDINGS


def test_an_adapter_beside_the_bases_config_is_an_adapter(tmp_path: Path) -> None:
    corpus.valid_adapter(tmp_path / "a")
    corpus.write_json(tmp_path / "a" / "config.json", corpus.model_config())
    result, code = checked(tmp_path / "a")
    assert (code, result.checkpoints[0].role, result.findings) == (ExitCode.OK, "adapter", ())


def test_files_are_read_as_what_they_are(tmp_path: Path) -> None:
    corpus.valid_model(tmp_path / "m")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        result, code = checked(tmp_path / "m" / name)
        assert (code, result.findings) == (ExitCode.OK, ())
    assert checked(tmp_path / "m" / "model.safetensors")[0].checkpoints[0].tensors_by_kind == {"weight": 23 + 2}
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "downloaded.safetensors")
    assert checked(tmp_path / "downloaded.safetensors")[0].checkpoints[0].role == "model"
    corpus.edit_config(tmp_path / "m", auto_map={"AutoModel": "evil.Evil"})
    assert checked(tmp_path / "m" / "config.json")[1] == ExitCode.FINDINGS


def test_shards_and_their_index(tmp_path: Path) -> None:
    corpus.valid_model(tmp_path / "m")
    corpus.shard(tmp_path / "m")
    result, code = checked(tmp_path / "m" / "model-00001-of-00002.safetensors")
    assert (code, rules_of(result), result.checkpoints[0].tensors) == (ExitCode.OK, {"weights/one-shard"}, 10)
    result, code = checked(tmp_path / "m" / "model.safetensors.index.json")
    assert (code, rules_of(result)) == (ExitCode.OK, set())
    assert result.checkpoints[0].tensors == len(corpus.model_tensors())
    (tmp_path / "m" / "model-00002-of-00002.safetensors").unlink()
    assert rules_of(checked(tmp_path / "m" / "model.safetensors.index.json")[0]) == {"weights/shard-missing"}


# ---- what stands in place of a file ----

LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 123456\n".encode()
STAND_INS = {
    "lfs": (LFS, "git lfs pull"),
    "xet": (b"# xet version 0\nfilesize = 5\nhash = 'abc'\n", "git-xet"),
    "annex": (b"/annex/objects/SHA256E-s5--abc.bin\n", "git annex get"),
    "page": (b"<!DOCTYPE html>\n<html><head><title>Sign in</title>", "download the file again"),
    "entry": (b"Entry not found", "download the file again"),
    "error": (b'{"error":"Repository not found"}', "download the file again"),
    "denied": (b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>', "download the file"),
}


@pytest.mark.parametrize("kind", STAND_INS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "vocab.txt", "extra.bin"])
def test_a_stand_in_is_named_wherever_it_stands(tmp_path: Path, kind: str, name: str) -> None:
    corpus.valid_model(tmp_path / "m")
    (tmp_path / "m" / name).write_bytes(STAND_INS[kind][0])
    result, code = checked(tmp_path / "m")
    assert code == ExitCode.INCONCLUSIVE
    (found,) = [f for f in result.findings if f.not_analysed]
    assert found.rule_id == "file/stand-in" and STAND_INS[kind][1] in (found.advice or "")
    with pytest.raises(CheckpointError, match=re.escape(STAND_INS[kind][1])):
        require_loadable(inspect(tmp_path / "m"))


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet", "rows.json", "rows.tsv", "rows.arrow"])
@pytest.mark.parametrize("kind", STAND_INS)
def test_a_stand_in_for_data_is_named(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(STAND_INS[kind][0])
    with pytest.raises(DataError, match=re.escape(STAND_INS[kind][1])):
        read_table(tmp_path / name, frozenset())


@pytest.mark.parametrize(
    "content",
    [
        b"text,label\nEntry not found,0\n",
        b"404 times better,1\nbad,0\n",
        b'{"error": "none", "x": 1}\n{"error": "y"}\n',
    ],
)
def test_rows_that_look_like_messages_are_rows(content: bytes) -> None:
    assert stand_ins.recognise(content, len(content)) is None


# ---- pickles ----


class Runs:
    """Makes a canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def _torch(value: Any, path: Path, new: bool) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=new)


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    "a.bin": lambda value, path: _torch({"x": value}, path, True),
    "b.pt": lambda value, path: _torch({"x": value}, path, False),
    "c.pkl": lambda value, path: path.write_bytes(pickle.dumps(value, 0)) and None,
    "d.ckpt": lambda value, path: path.write_bytes(pickle.dumps([1, value], 4)) and None,
    "e.npy": lambda value, path: np.save(path, np.array([value], dtype=object), allow_pickle=True),
    "f.npz": lambda value, path: np.savez(path, x=np.array([value], dtype=object)),
    "g.joblib": lambda value, path: path.write_bytes(pickle.dumps(value, 2)[:-1]) and None,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_pickle_that_runs_code_is_found_and_not_run(tmp_path: Path, name: str) -> None:
    pytest.importorskip("picklescan")
    corpus.valid_model(tmp_path / "m")
    WRITERS[name](Runs(tmp_path / "canary"), tmp_path / "m" / name)
    result, code = checked(tmp_path / "m")
    assert code == ExitCode.FINDINGS and not (tmp_path / "canary").exists()
    (found,) = [f for f in result.findings if f.rule_id == "file/pickle-dangerous"]
    assert "system" in found.message and found.severity.label == "high"


def test_what_a_trainer_leaves_beside_weights_is_information(tmp_path: Path) -> None:
    import random

    pytest.importorskip("picklescan")
    from transformers import TrainingArguments

    corpus.valid_model(tmp_path / "m")
    layer = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    states = {
        "optimizer.pt": optimizer.state_dict(),
        "scheduler.pt": torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0).state_dict(),
        "rng_state.pth": {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()},
        "training_args.bin": TrainingArguments(output_dir=str(tmp_path / "out"), report_to=[]),
        "pytorch_model.bin": layer.state_dict(),
    }
    for name, state in states.items():
        torch.save(state, tmp_path / "m" / name)
    _torch(layer.state_dict(), tmp_path / "m" / "old.bin", False)
    np.savez(tmp_path / "m" / "arrays.npz", x=np.ones(3))
    result, code = checked(tmp_path / "m")
    assert (code, rules_of(result)) == (ExitCode.OK, {"file/pickle"})
    assert {f.severity.label for f in result.findings} == {"info"}


def test_what_cannot_be_read_whole_is_not_analysed(tmp_path: Path) -> None:
    pytest.importorskip("picklescan")
    paths = [tmp_path / name for name in ("code.pt", "twice.pt", "nested.zip", "noise.bin", "empty.bin")]
    for path, members in zip(paths, (["a/code/x.py"], ["a/data.pkl", "a/data.pkl"], ["inner.pt"]), strict=False):
        with zipfile.ZipFile(path, "w") as archive, pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)
            for member in members:
                archive.writestr(member, b"PK\x03\x04" if member == "inner.pt" else pickle.dumps([1]))
    paths[3].write_bytes(bytes(range(128, 256)) * 8)
    paths[4].write_bytes(b"")
    for path in paths:
        assert PickleReader().read(look_at_file(path)).problem, path.name


def test_without_the_library_a_pickle_is_not_analysed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picklescan.scanner", None)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([1], 2))
    assert "picklescan" in (PickleReader().read(look_at_file(tmp_path / "x.pkl")).problem or "")


# ---- other files ----


@pytest.mark.parametrize(
    "name",
    ["m.gguf", "m.onnx", "m.zip", "m.nemo", "m.keras", "m.h5", "m.pb", "m.tflite", "m.pt2", "m.mlmodel", "m.unknown"],
)
def test_a_format_that_is_not_read_is_never_clean(tmp_path: Path, name: str) -> None:
    corpus.valid_model(tmp_path / "m")
    (tmp_path / "m" / name).write_bytes(b"\x00\x01\x02" * 100)
    result, code = checked(tmp_path / "m")
    assert code == ExitCode.INCONCLUSIVE and result.checkpoints[0].inventory[name] == "not analysed"
    result, code = checked(tmp_path / "m", ignore=("*." + name.rpartition(".")[2],))
    assert code == ExitCode.OK and "file/ignored" in rules_of(result)
    assert name in next(f.message for f in result.findings if f.rule_id == "file/ignored")


def test_what_people_put_beside_weights_does_not_count(tmp_path: Path) -> None:
    corpus.valid_model(tmp_path / "m")
    for name in ("README.md", "LICENSE", ".gitattributes", "logo.png", "merges.txt", "tokenizer.model", "training.log",
                 "runs/events.out.tfevents.1.host.2", "LICENSE-APACHE", "USE_POLICY.md"):  # fmt: skip
        (tmp_path / "m" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"\x01\x02\xff")
    (tmp_path / "m" / "Makefile").write_text("all:\n")
    assert checked(tmp_path / "m") == (checked(tmp_path / "m")[0], ExitCode.OK)
    assert {other_files.kind(n) for n in ("x.safetensors", "x.jinja", "a/config.json", "vocab.txt")} == {"read"}


# ---- advice, followed to the letter ----


def follow(advice: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the python command of the advice with the directory in place of the container's /m."""
    code = advice.partition('python -c "')[2].partition('"`')[0]
    assert code
    command = [sys.executable, "-c", code.replace("/m/", f"{directory}/")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
def test_the_advice_for_pickled_weights_works_on_tied_ones(tmp_path: Path, shards: int) -> None:
    model = tmp_path / "m"
    corpus.valid_model(model)
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    tensors["tied.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
    names = list(tensors)
    for i in range(shards):
        name = "pytorch_model.bin" if shards == 1 else f"pytorch_model-{i + 1:05}-of-{shards:05}.bin"
        torch.save({n: tensors[n] for n in names[i::shards]}, model / name)
    (found,) = [f for f in inspect(model).findings if f.rule_id == "weights/pickle-only"]
    done = follow(found.advice or "", model)
    assert done.returncode == 0, done.stderr
    written = load_file(model / "model.safetensors")
    assert written.keys() == tensors.keys() and all(torch.equal(written[n], tensors[n]) for n in tensors)
    assert checked(model)[1] == ExitCode.OK


@pytest.mark.slow
def test_the_advice_for_a_pickled_adapter_names_its_files(tmp_path: Path) -> None:
    adapter = tmp_path / "a"
    corpus.valid_adapter(adapter)
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    (found,) = [f for f in inspect(adapter).findings if f.rule_id == "weights/pickle-only"]
    assert follow(found.advice or "", adapter).returncode == 0
    assert checked(adapter)[1] == ExitCode.OK and inspect(adapter).tensors


def test_no_advice_runs_what_a_name_says() -> None:
    assert "rename" in conversion.advice(["pytorch_model'; evil('.bin"], "model")
    assert "torch.load" not in conversion.advice(["flax_model.msgpack"], "model")


def test_a_long_command_is_printed_whole(tmp_path: Path) -> None:
    from rora_cli.reports.terminal import check as report

    corpus.valid_model(tmp_path / "m")
    torch.save({"x": torch.ones(2)}, tmp_path / "m" / "pytorch_model.bin")
    (tmp_path / "m" / "model.safetensors").unlink()
    text = report.render(checked(tmp_path / "m")[0])
    (line,) = [line for line in text.splitlines() if line.startswith("docker run")]
    assert line.endswith("{'format': 'pt'})\"")


def test_following_the_advice_ends_the_finding(tmp_path: Path) -> None:
    corpus.valid_model(tmp_path / "m")
    corpus.valid_adapter(tmp_path / "a")
    for file in (tmp_path / "a").iterdir():
        file.rename(tmp_path / "m" / file.name)
    result, code = checked(tmp_path / "m")
    assert code == ExitCode.FINDINGS and "model/adapter-inside" in rules_of(result)
    for name in ("adapter_config.json", "adapter_model.safetensors"):  # into a directory of their own, and check both
        (tmp_path / "m" / name).rename(tmp_path / "a" / name)
    assert checked(tmp_path / "m", tmp_path / "a")[1] == ExitCode.OK


# ---- patterns, and scales in headers ----


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        (r".*\.(query|value)$", ExitCode.OK),
        (r"^(language_model(?=\.).*\.(o_proj|k_proj|q_proj))$", ExitCode.OK),
        (
            r"(?:.*?(?:vision|text).*?(?:self_attn|mlp).*?(?:q_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.)",
            ExitCode.OK,
        ),
        (r"(([a-z._])+)+!", ExitCode.FINDINGS),
    ],
)
def test_patterns_for_target_modules(tmp_path: Path, pattern: str, code: ExitCode) -> None:
    corpus.valid_adapter(tmp_path / "a")
    corpus.edit_adapter(tmp_path / "a", target_modules=pattern)
    result, found = checked(tmp_path / "a")
    assert found == code and "adapter/regex-target" in rules_of(result)


@pytest.mark.parametrize(
    ("metadata", "scaling"),
    [
        ({"lora_alpha": "8"}, 4.0), ({"alpha": "1"}, 0.5), ({"ss_network_alpha": "4.0", "ss_network_dim": "2"}, 2.0),
        ({"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 6, "transformer.r": 2})}, 3.0),
        ({"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 6, "text_encoder.lora_alpha": 2})}, None),
        ({"adapter_config": json.dumps({"lora_alpha": 4, "alpha_pattern": {"query": 10}})}, 5.0),
        ({"lora_alpha": "nan"}, None), ({"lora_alpha": "None"}, None), ({"lora_alpha": "-3"}, None), ({}, None),
    ],
)  # fmt: skip
def test_the_scale_of_a_file_without_config(tmp_path: Path, metadata: dict[str, str], scaling: float | None) -> None:
    from rora_cli.checkpoints.adapters import read_adapter

    module = "base_model.model.bert.encoder.layer.0.attention.self.query"
    tensors = {f"{module}.lora_A.weight": torch.ones(2, 8), f"{module}.lora_B.weight": torch.ones(8, 2)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt", **metadata})
    adapter = read_adapter(inspect(tmp_path / "x.safetensors"))
    assert [m.scaling for m in adapter.modules] == ([] if scaling is None else [scaling])
    assert all("the scale is unknown" in reason for reason in adapter.unmeasured.values())
    assert ("adapter/config-missing" in rules_of(checked(tmp_path / "x.safetensors")[0])) == (scaling is None)


def test_a_kohya_file_is_measured_with_the_alpha_it_has(tmp_path: Path) -> None:
    from rora_cli.checkpoints.adapters import read_adapter

    tensors = {"lora_unet_q.lora_down.weight": torch.ones(16, 32), "lora_unet_q.lora_up.weight": torch.ones(32, 16)}
    for name, metadata, scaling in (("a", {"alpha": "8"}, 0.5), ("b", {"ss_network_alpha": "None"}, 1.0)):
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata=metadata)
        assert read_adapter(inspect(tmp_path / f"{name}.safetensors")).modules[0].scaling == scaling
        result, code = checked(tmp_path / f"{name}.safetensors")
        assert (code, result.findings) == (ExitCode.OK, ())
