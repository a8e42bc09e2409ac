"""Models and data sets from a hub: the real huggingface_hub against a stand-in hub on loopback."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rora_cli import hub_access
from rora_cli.checkpoints.hub import fetch_model
from rora_cli.data.sources import load_rows, load_splits
from rora_cli.errors import CheckpointError, DataError, HubError
from tests.hub_stand_in import StandInHub, StandInRepository, running

LABELS = ("negative", "positive")
CANARY = b"open('canary', 'w').write('code ran')"


def parquet(texts: list[str], labels: list[int], *, names: tuple[str, ...] = LABELS) -> bytes:
    """What ``datasets`` would push: a parquet file with the ClassLabel's names in its schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    feature = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    table = pa.table({"text": texts, "label": labels})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def train_parquet(start: int = 0) -> bytes:
    return parquet([f"sentence number {i}" for i in range(start, start + 20)], [i % 2 for i in range(20)])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """An empty stand-in hub that huggingface_hub in this process talks to, with a cache of its own."""
    from huggingface_hub import constants

    with running(StandInHub()) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        template = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("time.sleep", lambda _: None)  # retries need not wait here
        yield served


@pytest.fixture
def model_files(tiny_classifier: Path) -> dict[str, bytes]:
    """A real checkpoint, and beside it what must never be fetched."""
    files = {path.name: path.read_bytes() for path in tiny_classifier.iterdir()}
    return files | {
        "pytorch_model.bin": b"\x80\x04" + CANARY,
        "modeling_evil.py": CANARY,
        "onnx/config.json": b"{}",
        "training_args.bin": CANARY,
        "README.md": b"# a model",
    }


def add_model(hub: StandInHub, files: dict[str, bytes], repo_id: str = "owner/model", **how: Any) -> StandInRepository:
    hub.repositories["models", repo_id] = StandInRepository({"main": files}, **how)
    return hub.repositories["models", repo_id]


def add_data(hub: StandInHub, files: dict[str, bytes], repo_id: str = "owner/data", **branches: Any) -> None:
    hub.repositories["datasets", repo_id] = StandInRepository({"main": files, **branches})


def go_offline(hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, any request is a failure of the test."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()


class TestModel:
    def test_fetched_model_loads_and_only_safe_files_were_asked_for(
        self, hub: StandInHub, model_files: dict[str, bytes], tiny_classifier: Path
    ) -> None:
        from transformers import AutoModelForSequenceClassification

        repository = add_model(hub, model_files)
        source = fetch_model("owner/model")
        assert source.commit == repository.commit("main")
        assert not source.was_renamed
        assert {path.name for path in source.path.iterdir()} == {path.name for path in tiny_classifier.iterdir()}
        assert hub.fetched() == {path.name for path in tiny_classifier.iterdir()}
        model = AutoModelForSequenceClassification.from_pretrained(source.path, local_files_only=True)
        assert model.config.id2label == dict(enumerate(LABELS))

    def test_renamed_repository_is_followed_and_said(self, hub: StandInHub, model_files: dict[str, bytes]) -> None:
        add_model(hub, model_files, "new-owner/model")
        hub.renamed["models", "owner/model"] = "new-owner/model"
        source = fetch_model("owner/model")
        assert (source.repo_id, source.was_renamed) == ("new-owner/model", True)
        assert (source.path / "model.safetensors").read_bytes() == model_files["model.safetensors"]

    def test_cache_answers_without_network(
        self, hub: StandInHub, model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_model(hub, model_files, "new-owner/model")
        hub.renamed["models", "owner/model"] = "new-owner/model"
        online = fetch_model("owner/model")
        go_offline(hub, monkeypatch)
        offline = fetch_model("owner/model")
        assert (offline.path, offline.commit) == (online.path, online.commit)
        with pytest.raises(
            HubError, match=r"owner/other is neither a local path nor in the hub's cache.* give a local directory"
        ):
            fetch_model("owner/other")
        assert hub.requests == []

    def test_half_a_cache_does_not_answer(
        self, hub: StandInHub, model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_model(hub, model_files)
        source = fetch_model("owner/model")
        (source.path / "tokenizer.json").unlink()  # as after an interrupted fetch
        go_offline(hub, monkeypatch)
        with pytest.raises(HubError, match=r"tokenizer.json of owner/model is not in the hub's cache"):
            fetch_model("owner/model")

    def test_changed_cache_does_not_answer(
        self, hub: StandInHub, model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_model(hub, model_files)
        blob = (fetch_model("owner/model").path / "model.safetensors").resolve()
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        go_offline(hub, monkeypatch)
        with pytest.raises(HubError, match=r"model.safetensors of owner/model is not what the hub announced"):
            fetch_model("owner/model")

    @pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "\x1b[2J.json"])
    def test_file_name_that_is_unsafe(self, hub: StandInHub, model_files: dict[str, bytes], name: str) -> None:
        add_model(hub, model_files | {name: b"{}"})
        with pytest.raises(HubError, match="lists a file with an unsafe name"):
            fetch_model("owner/model")
        assert hub.fetched() == set()

    def test_no_download_allowed_means_no_request(self, hub: StandInHub, model_files: dict[str, bytes]) -> None:
        add_model(hub, model_files)
        with pytest.raises(HubError, match="the network is not to be used"):
            fetch_model("owner/model", allow_download=False)
        assert hub.requests == []

    def test_revision_selects_the_branch(self, hub: StandInHub, model_files: dict[str, bytes]) -> None:
        other = model_files | {"config.json": model_files["config.json"].replace(b"negative", b"nasty")}
        repository = StandInRepository({"main": model_files, "v1": other})
        hub.repositories["models", "owner/model"] = repository
        source = fetch_model("owner/model", revision="v1")
        assert source.commit == repository.commit("v1") != repository.commit("main")
        assert b"nasty" in (source.path / "config.json").read_bytes()
        by_commit = fetch_model("owner/model", revision=source.commit)
        assert by_commit.path == source.path

    def test_local_path_wins(
        self, hub: StandInHub, model_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_model(hub, model_files)
        (tmp_path / "owner" / "model").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        source = fetch_model("owner/model")
        assert (source.path, source.commit) == (Path("owner/model"), None)
        assert hub.requests == []
        with pytest.raises(CheckpointError, match="has no revisions"):
            fetch_model("owner/model", revision="main")

    def test_pickle_only_repository_is_refused_before_any_download(self, hub: StandInHub) -> None:
        add_model(hub, {"config.json": b"{}", "pytorch_model.bin": CANARY})
        with pytest.raises(CheckpointError, match=r"only as pytorch_model.bin, a format that can run code"):
            fetch_model("owner/model")
        assert hub.fetched() == set()

    @pytest.mark.parametrize("name", ["./missing", "/no/such/place", "a/b/c", "missing.safetensors", "../x", "a--b/c"])
    def test_what_is_no_hub_id_is_a_missing_path(
        self, hub: StandInHub, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "inner").mkdir()
        monkeypatch.chdir(tmp_path / "inner")  # where nothing of these names lies, beside it neither
        with pytest.raises(CheckpointError, match="does not exist"):
            fetch_model(name)
        assert hub.requests == []


class TestHubErrors:
    """Each way in which a hub fails is one sentence, and nothing broken is left to be read as whole."""

    def expect(self, pattern: str, **arguments: Any) -> None:
        with pytest.raises(HubError, match=pattern) as caught:
            fetch_model("owner/model", **arguments)
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 300

    def test_unknown_repository(self, hub: StandInHub) -> None:
        self.expect("the hub has no model owner/model that you may read")

    def test_private_repository_answers_401(self, hub: StandInHub, model_files: dict[str, bytes]) -> None:
        add_model(hub, model_files, private=True)
        self.expect("the hub has no model owner/model that it shows without a login.*log in")

    def test_gated_repository(self, hub: StandInHub, model_files: dict[str, bytes]) -> None:
        add_model(hub, model_files, gated=True)
        self.expect("model owner/model is gated; accept its terms")

    def test_unknown_revision(self, hub: StandInHub, model_files: dict[str, bytes]) -> None:
        add_model(hub, model_files)
        self.expect("has no revision 'v9'", revision="v9")

    def test_broken_off_download(self, hub: StandInHub, model_files: dict[str, bytes]) -> None:
        repository = add_model(hub, model_files, breaks={"model.safetensors": "truncated"})
        self.expect("the download of model owner/model broke off")
        repository.breaks.clear()
        source = fetch_model("owner/model")
        assert (source.path / "model.safetensors").read_bytes() == model_files["model.safetensors"]

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
    def test_corrupt_download_of_the_right_size(
        self, hub: StandInHub, model_files: dict[str, bytes], name: str
    ) -> None:
        add_model(hub, model_files, breaks={name: "corrupt"})
        self.expect(f"{name} of owner/model is not what the hub announced")

    def test_connection_refused(self, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        self.expect(f"the hub at {endpoint} cannot be reached for model owner/model")

    def test_fault_of_ours_is_not_hidden(self, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import HfApi

        def broken(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(HfApi, "repo_info", broken)
        with pytest.raises(ZeroDivisionError):
            hub_access.look_up("owner/model", "model")


class TestData:
    def test_parquet_splits_with_class_names(self, hub: StandInHub) -> None:
        files = {
            "data/train-00000-of-00002.parquet": train_parquet(),
            "data/train-00001-of-00002.parquet": train_parquet(20),
            "data/validation-00000-of-00001.parquet": parquet(["held out", "sentence number 3"], [1, 0]),
            "data/test-00000-of-00001.parquet": parquet(["unlabelled"], [-1]),
            "data.py": CANARY,
            "README.md": b"---\nconfigs:\n- config_name: default\n  data_files: ../../etc/passwd\n---\n",
        }
        add_data(hub, files)
        splits = load_splits("owner/data", label_names=("POS", "NEG"))
        assert (len(splits.train), len(splits.held_out)) == (39, 2)
        assert splits.held_out.labels == (0, 1)  # by name, though the model's ids are the other way round
        assert splits.summary.shared_rows == 1
        assert splits.summary.revision == hub.repositories["datasets", "owner/data"].commit("main")
        assert splits.summary.label_mapping == {"0 (negative)": "NEG", "1 (positive)": "POS"}
        assert set(splits.summary.inputs) == {name for name in files if "train" in name or "validation" in name}
        assert hub.fetched() == {name.split("/")[1] for name in splits.summary.inputs}

    def test_jsonl_through_a_rename(self, hub: StandInHub) -> None:
        rows = [{"text": f"row {i}", "label": i % 2, "label_text": LABELS[i % 2]} for i in range(20)]
        add_data(hub, {"train.jsonl": jsonl(rows), "test.jsonl": jsonl(rows[:4])}, "new/name")
        hub.renamed["datasets", "owner/data"] = "new/name"
        splits = load_splits("owner/data", label_names=LABELS)
        assert (len(splits.train), len(splits.held_out)) == (16, 4)
        assert splits.summary.splits["held_out"].source_split == "test"
        assert any("owner/data is called new/name" in note for note in splits.summary.notes)

    def test_well_known_names_reach_their_repository(self, hub: StandInHub) -> None:
        rows = [{"sentence": f"row {i}", "label": i % 2, "idx": i} for i in range(10)]
        glue = {f"{task}/train.jsonl": jsonl(rows) for task in ("cola", "mrpc")}
        add_data(hub, glue | {"cola/validation.jsonl": jsonl(rows[:2])}, "nyu-mll/glue")
        rows_, summary = load_rows("CoLA", label_names=("unacceptable", "acceptable"))
        assert (summary.origin, len(rows_)) == ("nyu-mll/glue:cola", 2)
        again, _ = load_rows("glue:cola", label_names=("unacceptable", "acceptable"))
        assert again == rows_
        by_id, _ = load_rows("nyu-mll/glue:cola", label_names=("unacceptable", "acceptable"))
        assert by_id == rows_

    def test_several_configurations_must_be_chosen(self, hub: StandInHub) -> None:
        rows = [{"text": "a", "label": 0}, {"text": "b", "label": 0}]
        main = {f"{name}/train.jsonl": jsonl(rows) for name in ("hate", "irony")}
        converted = {f"{name}/train/0000.parquet": train_parquet() for name in ("hate", "irony")}
        add_data(hub, main, **{"refs/convert/parquet": converted})
        with pytest.raises(DataError, match="choose one: owner/data:hate, owner/data:irony"):
            load_splits("owner/data", label_names=LABELS)
        assert len(load_splits("owner/data:irony", label_names=LABELS, dev_fraction=0.5).train) == 1

    def test_script_data_set_is_read_from_the_conversion(self, hub: StandInHub) -> None:
        converted = {"default/train/0000.parquet": train_parquet(), "default/test/0000.parquet": train_parquet(50)}
        add_data(hub, {"data.py": CANARY, "README.md": b""}, **{"refs/convert/parquet": converted})
        splits = load_splits("owner/data", label_names=LABELS)
        assert (len(splits.train), len(splits.held_out)) == (20, 20)
        assert any("Parquet conversion" in note for note in splits.summary.notes)
        assert hub.fetched() == {"0000.parquet"}

    def test_script_data_set_without_conversion(self, hub: StandInHub) -> None:
        add_data(hub, {"data.py": CANARY})
        with pytest.raises(DataError, match="owner/data holds no data file that can be read"):
            load_splits("owner/data", label_names=LABELS)

    def test_text_pairs_are_refused(self, hub: StandInHub) -> None:
        rows = [{"sentence1": "a", "sentence2": "b", "label": 0}]
        add_data(hub, {"mrpc/train.jsonl": jsonl(rows)}, "nyu-mll/glue")
        with pytest.raises(DataError, match="text-pair task"):
            load_splits("glue:mrpc", label_names=LABELS)

    def test_offline(self, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
        add_data(hub, {"data/train.parquet": train_parquet(), "data/test.parquet": train_parquet(30)})
        online = load_splits("owner/data", label_names=LABELS)
        go_offline(hub, monkeypatch)
        offline = load_splits("owner/data", label_names=LABELS)
        assert (offline.train, offline.held_out) == (online.train, online.held_out)
        assert offline.summary.revision == online.summary.revision
        with pytest.raises(HubError, match="what works offline is a local file or directory, `bundled`"):
            load_splits("sst2", label_names=LABELS)
        assert hub.requests == []

    def test_no_download_allowed_means_no_request(self, hub: StandInHub) -> None:
        add_data(hub, {"data/train.parquet": train_parquet()})
        with pytest.raises(HubError, match="the network is not to be used"):
            load_splits("owner/data", label_names=LABELS, allow_download=False)
        assert hub.requests == []
        online = load_splits("owner/data", label_names=LABELS)
        hub.requests.clear()
        assert load_splits("owner/data", label_names=LABELS, allow_download=False).train == online.train
        assert hub.requests == []

    def test_offline_without_the_split_that_is_needed(self, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
        add_data(hub, {"data/train.parquet": train_parquet(), "data/test.parquet": train_parquet(30)})
        load_rows("owner/data", label_names=LABELS, split="test")
        go_offline(hub, monkeypatch)
        assert len(load_rows("owner/data", label_names=LABELS)[0]) == 20
        with pytest.raises(HubError, match=r"data/train.parquet of owner/data is not in the hub's cache"):
            load_splits("owner/data", label_names=LABELS)

    @pytest.mark.parametrize("spec", ["no-such-name", "a/b/c", "owner/data:../x", "owner/da ta", "x.jsonl", "./x", ""])
    def test_what_is_no_data_at_all(self, hub: StandInHub, spec: str) -> None:
        with pytest.raises(DataError):
            load_splits(spec, label_names=LABELS)
        assert hub.requests == []

    def test_unknown_data_set(self, hub: StandInHub) -> None:
        with pytest.raises(HubError, match="the hub has no data set owner/data"):
            load_splits("owner/data", label_names=LABELS)

    def test_broken_download(self, hub: StandInHub) -> None:
        add_data(hub, {"train.parquet": train_parquet()})
        hub.repositories["datasets", "owner/data"].breaks["train.parquet"] = "truncated"
        with pytest.raises(HubError, match="the download of data set owner/data broke off"):
            load_splits("owner/data", label_names=LABELS)


def test_environment_alone_points_a_fresh_process_at_the_hub(
    hub: StandInHub, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    """HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE, as a user sets them: fetch, then the cache alone."""
    add_model(hub, model_files)
    add_data(hub, {"train.parquet": train_parquet(), "dev.jsonl": jsonl([{"text": "held out", "label": 1}])})
    program = (
        "from rora_cli.checkpoints.hub import fetch_model\n"
        "from rora_cli.data.sources import load_splits\n"
        "splits = load_splits('owner/data', label_names=('negative', 'positive'))\n"
        "print(fetch_model('owner/model').commit, splits.summary.splits['train'].fingerprint)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }

    def run(**more: str) -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, env=environment | more, check=True, capture_output=True, text=True, cwd=tmp_path, timeout=60
        ).stdout

    online = run()
    commit = hub.repositories["models", "owner/model"].commit("main")
    assert online.split()[0] == commit
    requests = len(hub.requests)
    assert run(HF_HUB_OFFLINE="1") == online
    assert len(hub.requests) == requests
    assert not (tmp_path / "canary").exists()
