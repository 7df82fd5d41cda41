"""8-bit integers instead of floats: a faster network, at a cost that is measured, not assumed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.base.files import atomic_write
from cervicyte.errors import DataError
from cervicyte.networks import onnx_graphs, runtime
from cervicyte.networks.runtime import Engine

#: Bits of a weight, kept in 8. Without VNNI, OpenVINO and ONNX Runtime add two products of 8-bit numbers in 16 bits and
#: cut what does not fit: with weights up to 64 nothing is cut, since 2 * 255 * 64 < 2**15, and every processor computes
#: the same.
WEIGHT_BITS = 7


def saturates() -> bool | None:
    """Tell whether this processor multiplies 8-bit integers in sums of 16 bits that are cut; None where unknown.

    Such are x86 processors with AVX2 and without VNNI. It matters for graphs with weights of 8 bits only.
    """
    flags = runtime.processor_flags()
    if not flags:
        return None
    return "avx2" in flags and not flags & {"avx512_vnni", "avx_vnni", "avx512vnni", "avxvnni"}


def weight_bits(graph: Path) -> int:
    """Bits that the integer weights of a quantised graph use: 7 where none is beyond 64 in absolute value, else 8."""
    import onnx
    from onnx import numpy_helper

    arrays = (numpy_helper.to_array(value) for value in onnx.load(graph).graph.initializer)
    kernels = [array for array in arrays if array.dtype == np.int8 and array.ndim > 1]
    return 7 if all(np.abs(kernel.astype(int)).max() <= 64 for kernel in kernels) else 8


@dataclass(frozen=True)
class QuantisationError:
    """How far the quantised features are from the float32 ones, on images not used to calibrate.

    Attributes
    ----------
    relative : |a - b| / |a| in the Euclidean norm, over all images
    cosine : mean cosine of the angle between the two vectors of an image
    images : how many were compared
    """

    relative: float
    cosine: float
    images: int


def quantise(onnx_path: Path, calibration: Iterable[np.ndarray], out: Path) -> Path:
    """Quantise a network's convolutions after training.

    Weights have `WEIGHT_BITS` bits and are symmetric per output channel; activations 8 with a zero
    point, their ranges the extremes seen on the calibration images. Biases, additions and pooling
    stay in float32: folded BatchNorms leave some channels with tiny weights, whose biases
    would overflow as integers.

    Parameters
    ----------
    onnx_path : a graph with the contract of `cervicyte.networks.onnx_graphs`
    calibration : batches of training images, uint8 (n, size, size, 3); read once, one at a time
    out : where the quantised graph goes

    Returns
    -------
    ``out``

    Raises
    ------
    DataError : no calibration images
    StorageError : ``out`` cannot be written
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    batches = iter(calibration)
    first = next(batches, None)
    if first is None:
        raise DataError("no images to calibrate the quantisation with", "0 images", "give some training images")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        wide, temporary = Path(folder) / "wide.onnx", Path(folder) / "quantised.onnx"
        onnx.save(onnx_graphs.widened(onnx.load(onnx_path)), wide)
        quantize_static(
            str(wide),
            str(temporary),
            _reader(first, batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=WEIGHT_BITS == 7,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["Conv"],
            extra_options={"QuantizeBias": False},
        )
        content = temporary.read_bytes()
    with atomic_write(out, "wb") as stream:
        stream.write(content)
    return out


def quantisation_error(onnx_path: Path, quantised: Path, batches: Iterable[np.ndarray]) -> QuantisationError:
    """Compare the features of a quantised network with those of the original in float32.

    Parameters
    ----------
    batches : of images not used to calibrate, uint8 (n, size, size, 3)
    """
    exact, rough = Engine(onnx_path, precision="float32"), Engine(quantised)
    difference = total = cosine = 0.0
    count = 0
    for batch in batches:
        a, b = exact.run(batch)["features"], rough.run(batch)["features"]
        difference += float(((a - b) ** 2).sum())
        total += float((a**2).sum())
        cosine += float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).sum())
        count += len(batch)
    if not count:
        raise DataError("no images to compare", "0 images", "give some images")
    return QuantisationError(float(np.sqrt(difference / total)), cosine / count, count)


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime advises a preparation that our graphs have behind them."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _reader(first: np.ndarray, rest: Iterator[np.ndarray]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Hands the batches over one by one."""

        def __init__(self) -> None:
            self.next: np.ndarray | None = first

        def get_next(self) -> dict[str, np.ndarray] | None:
            if self.next is None:
                return None
            batch, self.next = self.next, next(rest, None)
            return {"image": batch}

    return Reader()
