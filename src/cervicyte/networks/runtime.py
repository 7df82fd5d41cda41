"""The engine: runs an ONNX graph on the processor with OpenVINO, or ONNX Runtime where that fails.

Nothing is ever sent anywhere: OpenVINO's telemetry is kept out of the process. Compiled
networks are not kept on disk: compiling takes 0.2 to 0.8 s, fetching a compiled one 0.1 s less.
"""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte import settings
from cervicyte.base.parallel import in_order
from cervicyte.base.progress import say
from cervicyte.errors import CervicyteError, DataError, MissingError, UsageError
from cervicyte.networks import onnx_files
from cervicyte.settings import available_threads

ENGINES = ("openvino", "onnxruntime")
PRECISIONS = ("auto", "float32", "bfloat16")

_HINT = {"float32": "f32", "bfloat16": "bf16"}


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report the import over the network."""
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # OpenVINO then takes its own silent stand-in
    try:
        import openvino
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    return openvino


def has_bfloat16() -> bool:
    """True where OpenVINO is installed and this processor computes in bfloat16 natively."""
    try:
        capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (ImportError, RuntimeError):
        return False
    return "BF16" in capabilities


def processor_flags() -> frozenset[str]:
    """What the processor says that it can do, in the words of Linux; empty where it is not said there."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    lines = (line.partition(":") for line in text.splitlines())
    return frozenset(next((words for key, _, words in lines if key.strip() == "flags"), "").split())


class Engine:
    """One compiled network, safe to call from several threads.

    Parameters
    ----------
    model : an ONNX file or its bytes, all weights in it, with one input whose first axis is the batch
    outputs : names of the outputs to compute; only these are compiled
    precision : "auto" (bfloat16 where the processor has it), "float32" or "bfloat16";
        default: the setting. In a quantised graph it is that of what is not quantised.
    threads : processor threads, 0 for all; default: the setting
    batch_size : rows per request in `stream`; default: the setting
    engine : "openvino" or "onnxruntime"; default: the setting. Where OpenVINO is missing or
        cannot read the graph, ONNX Runtime takes over and a line says so.

    Attributes
    ----------
    engine, precision : what really runs: "float32", "bfloat16" or "int8" (a quantised graph)
    parallel : how many `run` calls at a time keep the processor busy

    Raises
    ------
    UsageError : an unknown engine, precision or output, or bfloat16 that is not to be had
    DataError : a graph that no engine can read, or whose weights lie in another file
    """

    def __init__(
        self,
        model: Path | str | bytes,
        outputs: tuple[str, ...] = ("features",),
        *,
        precision: str | None = None,
        threads: int | None = None,
        batch_size: int | None = None,
        engine: str | None = None,
    ) -> None:
        self.outputs = outputs
        self.batch_size = max(1, settings.get_int("batch_size") if batch_size is None else batch_size)
        wanted = _one_of("precision", precision or settings.get_str("precision"), PRECISIONS)
        chosen = _one_of("engine", engine or settings.get_str("engine"), ENGINES)
        count = (settings.get_int("threads") if threads is None else threads) or available_threads()
        source = model if isinstance(model, bytes) else _readable(Path(model))
        name = "a graph in memory" if isinstance(model, bytes) else model
        onnx_files.check_whole(source)
        backend: _OpenVINO | _OnnxRuntime | None = None
        if chosen == "openvino":
            try:
                backend = _OpenVINO(source, outputs, wanted, count)
            except (ImportError, RuntimeError) as error:
                if wanted == "bfloat16":
                    raise UsageError(
                        f"bfloat16 needs OpenVINO, which cannot run this ({_first_line(error)})",
                        todo="ask for float32 or auto",
                    ) from error
                say(f"OpenVINO cannot run this network ({_first_line(error)}); ONNX Runtime does")
        if backend is None:
            if wanted == "bfloat16":
                raise UsageError("ONNX Runtime has no bfloat16 on processors", "bfloat16", "ask for float32 or auto")
            backend = _OnnxRuntime(source, name, outputs, count)
        self._backend = backend
        self.engine = backend.name
        self.precision = backend.precision
        self.parallel = backend.parallel

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the outputs of one batch.

        Parameters
        ----------
        batch : (n, ...) of the input's dtype: uint8 (n, size, size, 3) for images

        Returns
        -------
        for each output asked for, a float32 array whose first axis is n
        """
        return dict(zip(self.outputs, self._backend.run(np.ascontiguousarray(batch)), strict=True))

    def stream(self, batches: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Compute batch after batch, in order, reading the next ones while the engine works.

        At most ``parallel + 1`` batches are held at any time.
        """
        return in_order(self.run, batches, threads=self.parallel, ahead=self.parallel + 1)


class _OpenVINO:
    """A network compiled by OpenVINO, with one inference request per parallel caller."""

    name = "openvino"

    def __init__(self, model: Path | bytes, outputs: tuple[str, ...], wanted: str, threads: int) -> None:
        openvino = import_openvino()
        native = has_bfloat16()
        if wanted == "bfloat16" and not native:
            raise UsageError("this processor does not compute in bfloat16", "bfloat16", "ask for float32 or auto")
        graph = _core().read_model(model)
        _check_outputs(outputs, [name for port in graph.outputs for name in port.get_names()])
        quantised = any(op.get_type_name() == "FakeQuantize" for op in graph.get_ops())
        precision = ("bfloat16" if native else "float32") if wanted == "auto" else wanted
        chosen = openvino.Model([graph.output(name) for name in outputs], graph.get_parameters(), "cervicyte")
        config = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": _HINT[precision],
        }
        if quantised:  # OpenVINO 2026.4 answers wrongly (tenfold) when several streams run int8
            config["NUM_STREAMS"] = "1"
        compiled = _core().compile_model(chosen, "CPU", config)
        real = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self.precision = "int8" if quantised else {"f32": "float32", "bf16": "bfloat16"}.get(real, real)
        self.parallel = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._ports = [compiled.output(name) for name in outputs]
        # Looked up once by one thread: two first runs at the same moment were once seen to wait for each other here.
        compiled.input(0).get_element_type().to_dtype()
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.parallel):
            self._requests.put(compiled.create_infer_request())

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        request = self._requests.get()
        try:
            outputs = request.infer({0: batch}, share_inputs=True, share_outputs=True)
            return [np.array(outputs[port], dtype=np.float32) for port in self._ports]
        finally:
            self._requests.put(request)


class _OnnxRuntime:
    """A network run by ONNX Runtime, in float32."""

    name = "onnxruntime"

    def __init__(self, model: Path | bytes, name: object, outputs: tuple[str, ...], threads: int) -> None:
        data = model if isinstance(model, bytes) else model.read_bytes()
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingError("ONNX Runtime is not installed", todo="pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnx_files.session(data, name, options)
        except DataError as error:
            raise DataError(f"no engine can read the network: {error.what}", error.received, error.todo) from error
        known = [o.name for o in self._session.get_outputs()]
        _check_outputs(outputs, known)
        self._outputs = list(outputs)
        self._input = self._session.get_inputs()[0].name
        self.precision = "int8" if b"DequantizeLinear" in data else "float32"
        self.parallel = 1

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(a, dtype=np.float32) for a in self._session.run(self._outputs, {self._input: batch})]


_CORE: list[Any] = []


def _core() -> Any:
    """OpenVINO's one entry point; making it takes a tenth of a second, so it is made once."""
    if not _CORE:
        _CORE.append(import_openvino().Core())
    return _CORE[0]


def _check_outputs(outputs: tuple[str, ...], known: list[str]) -> None:
    missing = [name for name in outputs if name not in known]
    if missing:
        raise UsageError("the network has no such output", ", ".join(missing), f"it has: {', '.join(known)}")


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise MissingError(f"cannot read the network: {error.strerror}", path, "check its name") from error


def _one_of(what: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UsageError(f"unknown {what}", repr(value), f"there are: {', '.join(known)}")
    return value


def _first_line(error: BaseException) -> str:
    if isinstance(error, CervicyteError):
        return error.one_line
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
