"""Exported graphs of the baselines, run by ONNX Runtime and PyTorch, against numbers of the released networks."""

import numpy as np
import onnxruntime
import pytest

from tests.reference.test_baselines import ALL, BASELINES, CASES, inputs_of, network_of, variables_of

torch = pytest.importorskip("torch")
from rvm_jax.export.baselines import graphs  # noqa: E402
from rvm_jax.export.baselines.torch_module import OnnxNetwork  # noqa: E402

SMALL = 30_000  # pixels of an image: larger cases are for RVM_REFERENCE
NAMES = {"d0": "output", "matte": "output"}  # as the exports call them


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case["name"], marks=pytest.mark.slow if "resnet" in case["variant"] else [])
        for case in CASES
        if ALL or case["shape"][1] * case["shape"][2] < SMALL
    ],
)
def test_export(case):
    network = network_of(case["variant"], **case["options"])
    model = graphs.build(network, variables_of(case["variant"], network), None)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = [x.astype(np.float32).transpose(0, 3, 1, 2) for x in inputs_of(case)]
    given = session.run(None, dict(zip(graphs.inputs_of(network), images, strict=True)))
    with torch.no_grad():
        in_torch = OnnxNetwork(model)(*map(torch.from_numpy, images))
    expected = dict(np.load(BASELINES / f"forward_{case['name']}.npz"))
    found = dict(zip(graphs.outputs_of(network), zip(given, in_torch, strict=True), strict=True))
    compared = 0
    for name in case["outputs"]:
        if (exported := NAMES.get(name, name)) not in found:
            continue  # a training head
        compared += 1
        for x in found[exported]:
            array = np.asarray(x).transpose(0, 2, 3, 1)
            steps = tuple(slice(None, None, step) for step in case["strides"].get(name, [1] * 4))
            tolerance = 3 * case["float32_noise"]
            np.testing.assert_allclose(array[steps], expected[name], rtol=0, atol=tolerance, err_msg=name)
    assert compared == len(found)
