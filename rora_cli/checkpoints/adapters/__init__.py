"""Adapters of every known format, read as updates DeltaW = scaling * lora_B @ lora_A of named base weights."""

from rora_cli.checkpoints.adapters.adapter import Adapter, AdapterModule, Update
from rora_cli.checkpoints.adapters.base import BaseWeights
from rora_cli.checkpoints.adapters.merge import merge_into
from rora_cli.checkpoints.adapters.registry import read_adapter

__all__ = ["Adapter", "AdapterModule", "BaseWeights", "Update", "merge_into", "read_adapter"]
