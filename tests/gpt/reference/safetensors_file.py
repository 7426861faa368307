"""Reads and writes safetensors with numpy alone: length (u64), JSON, values; little-endian."""

import json

import numpy as np

NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "U16": "<u2"}
NAMES_OF_TYPES = {np.dtype(value): name for name, value in NUMPY_TYPES.items()}


def write(path, tensors, metadata):
    """`tensors`: {name: array}. `metadata`: {text: text}."""
    header, offset = {"__metadata__": metadata}, 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": NAMES_OF_TYPES[values.dtype],
            "shape": list(values.shape),
            "data_offsets": [offset, offset + values.nbytes],
        }
        offset += values.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the values begin at a multiple of 8
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).tobytes())


def read(path):
    """Returns {name: array} and the metadata."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        values = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(values[begin:end], NUMPY_TYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"]).copy()
    return tensors, metadata
