"""Settings that take one of a few names: one light module for the library and the command line."""

from __future__ import annotations

from typing import Literal, get_args

HeadType = Literal["hybrid", "reweight", "content"]
HEAD_TYPES: tuple[HeadType, ...] = get_args(HeadType)

Position = Literal["relative", "absolute"]
POSITIONS: tuple[Position, ...] = get_args(Position)

Preset = Literal["balanced", "basic", "top_k", "top_p", "entropy"]
PRESET_NAMES: tuple[Preset, ...] = get_args(Preset)

EntropyRule = Literal["exact", "ratio"]
ENTROPY_RULES: tuple[EntropyRule, ...] = get_args(EntropyRule)

Unknown = Literal["error", "skip", "replace"]
UNKNOWN: tuple[Unknown, ...] = get_args(Unknown)

Backend = Literal["auto", "numpy", "compiled"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

Precision = Literal["int16", "int8", "float32"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEFAULT_PRECISION: Precision = "int16"

StoredType = Literal["float32", "bfloat16"]
STORED_TYPES: tuple[StoredType, ...] = get_args(StoredType)

LineFormat = Literal["jsonl", "txt", "table"]

RowFormat = Literal["jsonl", "txt", "csv", "tsv", "parquet"]
ROW_FORMATS: tuple[RowFormat, ...] = get_args(RowFormat)
