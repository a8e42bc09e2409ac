"""What a pickle would import when it is loaded; picklescan reads it statically, and nothing is ever unpickled.

picklescan lists the globals of a stream and knows which are dangerous. rora limits how much it reads, tells it which
globals honest trainers write, and believes it only if it read everything.
"""

from __future__ import annotations

import io
import logging
import os
import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from rora_cli.checkpoints.walk import FileEntry, open_unchanged

#: Limits for one stream: bytes, calls of ``read`` (one or more for an opcode, which takes picklescan about 100 bytes),
#: and members of an archive.
_MAX_BYTES, _MAX_CALLS, _MAX_MEMBERS = 64 << 20, 250_000, 50_000
#: Limit for all pickles of one checkpoint [calls of ``read``].
_MAX_CALLS_IN_ALL = 2_000_000
_PICKLE_MEMBERS = (".pkl", ".pickle", ".joblib", ".dat", ".data", ".npy")
_ZIP, _NUMPY = b"PK\x03\x04", b"\x93NUMPY"
_PICKLE_MAGIC = tuple(b"\x80" + bytes([protocol]) for protocol in range(6))
_ARCHIVES = {
    b"7z\xbc\xaf'\x1c": "7z",
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_TAR_MAGIC_AT, _TAR_MAGIC = 257, b"ustar"
_TOO_LARGE = f"holds more than the {_MAX_CALLS:,} opcodes or {_MAX_BYTES >> 20} MiB that rora reads"

#: Globals that open, import or load what the file names, and that are missing in picklescan's list.
_DANGEROUS: dict[str, frozenset[str]] = {
    "io": frozenset({"open", "open_code", "FileIO"}),
    "_io": frozenset({"open", "open_code"}),
    "builtins": frozenset({"__import__", "setattr", "delattr", "globals", "input"}),
    "__builtin__": frozenset({"__import__", "setattr", "delattr", "globals", "input", "execfile", "file"}),
    "importlib": frozenset({"import_module", "__import__", "reload"}),
    "torch": frozenset({"load", "compile"}),
    "torch.hub": frozenset({"load", "load_state_dict_from_url", "download_url_to_file"}),
    "numpy": frozenset({"load", "fromfile", "save", "savetxt"}),
    "joblib": frozenset({"load"}),
    "pandas": frozenset({"read_pickle", "eval"}),
}

#: Globals that torch, numpy and trainers of transformers models write for plain data, beside those that picklescan
#: calls innocuous. None of them runs, imports, opens or loads anything that its arguments name.
_HONEST: dict[str, frozenset[str]] = {
    "builtins": frozenset({"set", "frozenset", "dict", "list", "tuple", "bytearray", "complex", "slice", "range",
                           "object", "int", "float", "str", "bytes", "bool"}),
    "__builtin__": frozenset({"set", "frozenset", "dict", "list", "tuple", "bytearray", "complex", "slice", "xrange",
                              "object", "int", "float", "str", "unicode", "long", "bool"}),
    "_codecs": frozenset({"encode"}),
    "copy_reg": frozenset({"_reconstructor"}),
    "copyreg": frozenset({"_reconstructor"}),
    "collections": frozenset({"OrderedDict", "defaultdict", "deque", "Counter"}),
    "datetime": frozenset({"datetime", "date", "time", "timedelta", "timezone"}),
    "pathlib": frozenset({"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path"}),
    "pathlib._local": frozenset({"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path"}),
    "torch": frozenset({"Size", "device", "Tensor", "dtype", "float32", "float16", "bfloat16", "float64", "int64",
                        "int32", "int16", "int8", "uint8", "bool", "float8_e4m3fn", "float8_e5m2", "complex64",
                        "BFloat16Storage", "Generator"}),
    "torch._utils": frozenset({"_rebuild_parameter", "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3",
                               "_rebuild_parameter_with_state", "_rebuild_sparse_tensor", "_rebuild_qtensor"}),
    "torch._tensor": frozenset({"_rebuild_from_type_v2"}),
    "torch.nn.parameter": frozenset({"Parameter"}),
    "torch.storage": frozenset({"UntypedStorage", "TypedStorage", "_TypedStorage"}),
    "torch.serialization": frozenset({"_get_layout"}),
    "numpy": frozenset({"dtype", "ndarray", "float64", "float32", "int64", "int32", "bool_"}),
    "numpy.core.multiarray": frozenset({"_reconstruct", "scalar"}),
    "numpy._core.multiarray": frozenset({"_reconstruct", "scalar"}),
    "numpy.core.numeric": frozenset({"_frombuffer"}),
    "numpy._core.numeric": frozenset({"_frombuffer"}),
    "numpy.dtypes": frozenset({"Float64DType", "Float32DType", "Int64DType", "UInt32DType", "BoolDType"}),
    "transformers.training_args": frozenset({"TrainingArguments", "OptimizerNames", "ParallelMode"}),
    "transformers.training_args_seq2seq": frozenset({"Seq2SeqTrainingArguments"}),
    "transformers.trainer_utils": frozenset({"IntervalStrategy", "SaveStrategy", "SchedulerType", "HubStrategy",
                                             "EvaluationStrategy", "FSDPOption", "ShardedDDPOption"}),
    "transformers.trainer_pt_utils": frozenset({"AcceleratorConfig"}),
    "transformers.integrations.deepspeed": frozenset({"HfDeepSpeedConfig", "HfTrainerDeepSpeedConfig"}),
    "transformers.generation.configuration_utils": frozenset({"GenerationConfig"}),
    "transformers.debug_utils": frozenset({"DebugOption"}),
    "accelerate.state": frozenset({"PartialState"}),
    "accelerate.utils.dataclasses": frozenset({"DistributedType", "DeepSpeedPlugin", "DynamoBackend",
                                               "FullyShardedDataParallelPlugin", "TorchDynamoPlugin"}),
    "peft.utils.peft_types": frozenset({"PeftType", "TaskType"}),
    "peft.tuners.lora.config": frozenset({"LoraConfig", "LoftQConfig", "LoraRuntimeConfig"}),
    "trl.trainer.sft_config": frozenset({"SFTConfig"}),
    "trl.trainer.dpo_config": frozenset({"DPOConfig", "FDivergenceType"}),
    "trl.trainer.grpo_config": frozenset({"GRPOConfig"}),
    "trl.trainer.reward_config": frozenset({"RewardConfig"}),
}  # fmt: skip


@dataclass(frozen=True)
class PickleContents:
    """The globals that loading would import, as ``module.name``; ``problem`` says why the file may hold more."""

    dangerous: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    problem: str | None = None


class PickleReader:
    """Reads the pickles of one checkpoint, up to a total number of opcodes."""

    def __init__(self) -> None:
        self._calls = _MAX_CALLS_IN_ALL

    def read(self, entry: FileEntry) -> PickleContents:
        """The globals in a file: torch's two formats, plain pickles of every protocol, .npy, or a zip archive.

        Raises:
            CheckpointError: the file was changed since it was inspected.
            OSError: the file cannot be read.
        """
        if self._calls <= 0:
            return PickleContents(problem="is not read: the pickles here are larger together than rora reads")
        with self.open(entry) as file:
            start = file.read(_TAR_MAGIC_AT + len(_TAR_MAGIC))
            archive = _archive(start)
            if archive is not None:
                return PickleContents(problem=f"is a {archive} archive, which rora does not unpack")
            file.seek(0)
            try:
                return self._contents(file, start, PurePosixPath(entry.name).suffix.lower())
            except Exception as error:  # any kind: the bytes may be made to break parsers
                return PickleContents(problem=f"cannot be read as a pickle ({type(error).__name__})")

    def open(self, entry: FileEntry) -> IO[bytes]:
        """The file's bytes. Raises CheckpointError where it is no longer the file that was inspected."""
        return os.fdopen(open_unchanged(entry), "rb")

    def _contents(self, file: IO[bytes], start: bytes, suffix: str) -> PickleContents:
        problem = self._zip_problem(file) if start.startswith(_ZIP) else self._stream_problem(file, start)
        if problem == _TOO_LARGE:
            return PickleContents(problem=problem)
        try:
            from picklescan.scanner import scan_bytes
        except ImportError:
            return PickleContents(problem="cannot be read without the package picklescan (pip install picklescan)")
        logging.getLogger("picklescan").setLevel(logging.CRITICAL + 1)  # its messages carry names from the file
        file.seek(0)
        stream = _Limited(file)
        scan = scan_bytes(stream, "", suffix)
        self._calls -= stream.calls
        if stream.exceeded:
            problem = _TOO_LARGE
        elif scan.scan_err:
            problem = problem or "breaks off inside a pickle"
        return _sorted(scan, problem)

    def _stream_problem(self, file: IO[bytes], start: bytes) -> str | None:
        """Why a file that is no zip archive cannot be read as a pickle up to its STOP opcode, or None."""
        if start.startswith(_NUMPY):
            return None  # its header says whether a pickle follows, and picklescan reads both
        stream = _Limited(file)
        try:
            for _ in pickletools.genops(stream):  # type: ignore[arg-type]
                pass
        except Exception:
            return _TOO_LARGE if stream.exceeded else "is no pickle that can be read to its end"
        finally:
            self._calls -= stream.calls
        return None

    def _zip_problem(self, file: IO[bytes]) -> str | None:
        """Why a zip archive may hold more than the reader sees, or None."""
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                return _TOO_LARGE
            if len({m.filename for m in members}) < len(members):
                return "has two members of one name, of which loaders may read either"
            problems = [self._member_problem(archive, member) for member in members]
        return _TOO_LARGE if _TOO_LARGE in problems else next((p for p in problems if p), None)

    def _member_problem(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str | None:
        if self._calls <= 0:
            return _TOO_LARGE
        suffix = PurePosixPath(member.filename).suffix.lower()
        try:
            with archive.open(member) as opened:
                start = opened.read(8)
            if "/code/" in f"/{member.filename}" and suffix == ".py":
                return "holds TorchScript code, which loading it can run"
            if start.startswith(_ZIP) and "/data/" not in f"/{member.filename}":
                return "holds another archive"
            if not (start.startswith(_PICKLE_MAGIC) or suffix in _PICKLE_MEMBERS) or start.startswith(_NUMPY):
                return None
            with archive.open(member) as opened:
                stream = _Limited(opened)
                for _ in _operations(stream):
                    pass
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
            return f"is encrypted or damaged ({type(error).__name__})" if suffix in _PICKLE_MEMBERS else None
        self._calls -= stream.calls
        return _TOO_LARGE if stream.exceeded else None


def _archive(start: bytes) -> str | None:
    kind = next((kind for magic, kind in _ARCHIVES.items() if start.startswith(magic)), None)
    return "tar" if kind is None and start[_TAR_MAGIC_AT:] == _TAR_MAGIC else kind


def _sorted(scan: Any, problem: str | None) -> PickleContents:
    dangerous, unknown = set(), set()
    for found in scan.globals:
        shown, level = f"{found.module}.{found.name}", found.safety.value
        if level == "dangerous" or found.name in _DANGEROUS.get(found.module, ()):
            dangerous.add(shown)
        elif level != "innocuous" and found.name not in _HONEST.get(found.module, ()):
            unknown.add(shown)
    return PickleContents(tuple(sorted(dangerous)), tuple(sorted(unknown)), problem)


def _operations(stream: _Limited) -> Iterator[Any]:
    """The opcodes of the consecutive pickles in a stream, up to the first bytes that are no pickle."""
    while True:
        try:
            yield from pickletools.genops(stream)  # type: ignore[arg-type]
        except (zipfile.BadZipFile, OSError):
            raise
        except Exception:
            return


class _Limited(io.BufferedIOBase):
    """A stream that ends and sets ``exceeded`` when a reader takes more of it than an honest pickle needs."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._bytes, self.calls, self.exceeded = stream, _MAX_BYTES, 0, False

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = _MAX_BYTES if size is None or size < 0 else min(size, _MAX_BYTES)
        return self._taken(self._stream.read(wanted + (wanted == _MAX_BYTES)))

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._taken(self._stream.readline(_MAX_BYTES + 1))

    def _taken(self, data: bytes) -> bytes:
        self._bytes -= len(data)
        self.calls += 1
        if self._bytes < 0 or self.calls > _MAX_CALLS:
            self.exceeded = True
            return b""
        return data

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
