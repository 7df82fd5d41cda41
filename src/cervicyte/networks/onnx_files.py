"""ONNX files of others: read whole, with the weights that lie in further files, and run by ONNX Runtime."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from cervicyte.base.files import printable
from cervicyte.base.versions import version_of
from cervicyte.errors import DataError, MissingError

#: Most bytes that a graph with its weights may take: protobuf, in which bundles hold it, allows 2 GiB; the rest is for
#: what we add.
MOST_BYTES = 2**31 - 2**20

#: What each graph with weights in further files holds: the key "location" of a tensor's entry, as protobuf writes it.
_MARK = b"\n\x08location"

_ONE_FILE = "save it as one file: onnx.save(onnx.load(FILE), NEW_FILE)"


def load(path: Path) -> tuple[Any, str]:
    """Read an ONNX file whole.

    Returns
    -------
    model : onnx.ModelProto that holds all of its weights
    digest : names every byte of the network: SHA-256 of the file, and of those that hold its weights

    Raises
    ------
    MissingError : the file, or one that holds its weights, is not there
    DataError : not ONNX, weights that lie outside the file's folder or are not all there, or more than `MOST_BYTES`
    """
    from onnx import TensorProto

    if not path.is_file():
        raise MissingError("no such ONNX file", printable(path.absolute()), "check the name after onnx:")
    _check_size(path, path.stat().st_size)
    data = path.read_bytes()
    model = _parsed(data, path)
    external = [tensor for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    places = {name: _place(name, path) for name in sorted({_entry(tensor)["location"] for tensor in external})}
    _check_size(path, len(data) + sum(_length(t, places[_entry(t)["location"]].stat().st_size, path) for t in external))
    digests = [hashlib.sha256(data).hexdigest()]
    for name, place in places.items():
        content = place.read_bytes()
        digests.append(f"{name} {hashlib.sha256(content).hexdigest()}")
        for tensor in external:
            if _entry(tensor)["location"] == name:
                start = _offset(tensor)
                tensor.raw_data = content[start : start + _length(tensor, len(content), path)]
    for tensor in external:
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return model, digests[0] if not external else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def check_whole(model: Path | bytes) -> None:
    """Refuse a graph whose weights lie in further files, which no checksum of ours would name.

    Raises
    ------
    DataError : it keeps weights in further files
    """
    data = model if isinstance(model, bytes) else model.read_bytes()
    if _MARK not in data:
        return
    from onnx import TensorProto

    name = "a graph in memory" if isinstance(model, bytes) else printable(model)
    if any(t.data_location == TensorProto.EXTERNAL for t in _tensors(_parsed(data, Path(name)))):
        raise DataError("the graph keeps its weights in another file", name, _ONE_FILE)


def session(model: Path | bytes, name: object, options: Any = None) -> Any:
    """Load a graph that holds its weights into ONNX Runtime, on the processor.

    Parameters
    ----------
    name : of the graph, for messages
    options : onnxruntime.SessionOptions

    Raises
    ------
    MissingError : ONNX Runtime is not installed
    DataError : ONNX Runtime cannot read it; says where it is too old for the graph
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingError("ONNX Runtime is not installed", todo="pip install onnxruntime") from error
    data = model if isinstance(model, bytes) else model.read_bytes()
    try:
        return onnxruntime.InferenceSession(data, options or _silent(), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises its own unrelated classes
        graph = _parsed(data, Path(str(name)))
        opsets = {entry.domain: entry.version for entry in graph.opset_import}
        opset = opsets.get("", opsets.get("ai.onnx", 1))
        if not _runtime_reads(graph.ir_version, opset):
            raise DataError(
                f"ONNX Runtime {version_of('onnxruntime')} is too old for the graph",
                f"{name}: IR version {graph.ir_version}, opset {opset}",
                "pip install --upgrade onnxruntime, or write the graph for an older one: "
                "torch.onnx.export(..., opset_version=18), onnx.helper.make_model(..., ir_version=10, "
                "opset_imports=[onnx.helper.make_opsetid('', 18)])",
            ) from error
        raise DataError(
            f"ONNX Runtime {version_of('onnxruntime')} cannot load the graph ({_first_line(error)})",
            str(name),
            "check it with onnx.checker.check_model, and that it runs in ONNX Runtime by itself",
        ) from error


@functools.lru_cache(maxsize=16)
def _runtime_reads(ir_version: int, opset: int) -> bool:
    """True where ONNX Runtime takes a graph of these versions, tried with one that does nothing."""
    import onnxruntime
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), _silent(), providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  # unrelated classes: whatever it says, it does not read these versions
        return False
    return True


def _silent() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def _parsed(data: bytes, path: Path) -> Any:
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError has no common base with the others
        todo = "name a file that onnx.load reads"
        raise DataError(f"not a readable ONNX file ({_first_line(error)})", printable(path), todo) from error
    return model


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor of a protobuf message, wherever it stands: initializers, attributes, subgraphs, functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "add") else [value]:
                yield from _tensors(part)


def _entry(tensor: Any) -> dict[str, str]:
    """Where a tensor's weights lie: its location, and offset and length in bytes where they are stated."""
    return {"location": "", **{item.key: item.value for item in tensor.external_data}}


def _place(name: str, path: Path) -> Path:
    """Return the file of weights of that name beside an ONNX file."""
    received, place = f"{printable(path)}: {name!r}", path.parent / name
    parts = PurePosixPath(name)
    outside = not name or "\\" in name or parts.is_absolute() or ".." in parts.parts
    if outside or (os.path.lexists(place) and not place.resolve().is_relative_to(path.parent.resolve())):
        what = "the network's weights lie outside the folder of its ONNX file"
        raise DataError(what, received, f"put the file of weights itself, no link, beside it, or {_ONE_FILE}")
    if not place.is_file():
        raise MissingError("a file with the network's weights is missing", received, "copy it beside the ONNX file")
    return place


def _offset(tensor: Any) -> int:
    return int(_entry(tensor).get("offset") or 0)


def _length(tensor: Any, size: int, path: Path) -> int:
    """Bytes of a tensor's weights in a file of ``size`` bytes; all from their offset on where no length is stated."""
    entry = _entry(tensor)
    received = f"{printable(path)}: {entry['location']!r} of {size} bytes, weights {tensor.name!r}"
    try:
        offset = _offset(tensor)
        length = int(entry.get("length") or size - offset)
    except ValueError as error:
        raise DataError("the place of the network's weights is no number", received, _ONE_FILE) from error
    if offset < 0 or length < 0 or offset + length > size:
        received = f"{received}: bytes {offset} to {offset + length}"
        raise DataError("the file with the network's weights is cut short", received, "copy it again")
    return length


def _check_size(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise DataError(
            "the network with its weights is larger than one ONNX file may be",
            f"{printable(path)}: {size / 2**30:.2f} GiB; at most 2 GiB",
            "export it with weights in float16, or a smaller network",
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
