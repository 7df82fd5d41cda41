#!/usr/bin/env bash
# onnx 1.23.2 writes IR version 14 and opset 28 where none is stated; onnxruntime 1.31.1, of the same weeks, refuses it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2
for version in 1.31.1 1.32.0; do
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==$version"
  "$folder/venv/bin/python" - "$version" <<'PY'
import sys
import onnx
import onnxruntime
from onnx import TensorProto, helper
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:]))
print("onnx", onnx.__version__, "writes IR", model.ir_version, "opset", model.opset_import[0].version)
try:
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    refused = False
except Exception as error:
    refused = True
    print(str(error)[:200])
print("onnxruntime", onnxruntime.__version__, "expected: runs; seen:", "refused" if refused else "runs")
raise SystemExit(0 if refused == (sys.argv[1] == "1.31.1") else 1)
PY
done
