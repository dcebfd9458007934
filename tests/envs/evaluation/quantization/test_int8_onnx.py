"""Symmetric levels in onnxruntime's int8 kernels: the same products, and milliseconds beside the floats'."""

import pytest
import torch
from integer_subjects import conv, policy
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.latency import measure_latency, onnx_session
from envs.evaluation.quantization.int8_onnx import Int8Layer, int8_form
from envs.evaluation.transform import apply
from rlsuite.methods import choose

SUBJECTS = {"pictures": conv, "a policy": policy}


def quantized(subject, **numbers):
    few = {"pams.calibration": 2, "pams.teach.fit.steps": 2, "pams.teach.fit.batch_size": 16}
    (method,) = choose(EVALUATIONS, ["pams"], few | {f"pams.{key}": value for key, value in numbers.items()})
    return apply(method, subject, 0)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_int8_kernels_multiply_the_same_numbers(kind):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    made = quantized(SUBJECTS[kind](), **{"places.first": 8, "places.last": 8})
    form = int8_form(made.module)
    layers = [part for part in form.modules() if isinstance(part, nn.Conv2d | nn.Linear | Int8Layer)]
    assert all(isinstance(part, Int8Layer) for part in layers)
    inputs = made.task.source("test").examples(torch.arange(20))["input"]
    session = onnx_session(form, made.example, 1)
    kinds = {node.op_type for node in read(form, made.example).graph.node}
    assert kinds & {"MatMulInteger", "ConvInteger"}
    assert not kinds & {"MatMul", "Conv", "Gemm"}
    with torch.no_grad():
        expected, own = made.module(inputs), form(inputs)
    name = session.get_inputs()[0].name
    theirs = torch.cat([torch.from_numpy(session.run(None, {name: one[None].numpy()})[0]) for one in inputs])
    for found in (own, theirs):  # a number on the border between two levels may fall to either side
        assert float((found - expected).abs().mean()) < 1e-3 * float(expected.std())


def read(module, example):
    import onnx

    from envs.evaluation.quantization.int8_onnx import translations

    program = torch.onnx.export(module, (example,), dynamo=True, verbose=False, custom_translation_table=translations())
    return onnx.load_from_string(program.model_proto.SerializeToString())


def test_milliseconds_stand_beside_each_other():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    subject = policy()
    before = measure_latency(subject.module, subject.example)
    after = measure_latency(quantized(subject).module, subject.example)
    assert set(before) == {"milliseconds/torch", "milliseconds/onnxruntime"}
    assert set(after) == {*before, "milliseconds/onnxruntime int8"}
    assert all(value > 0.0 for value in after.values())


@pytest.mark.parametrize("numbers", [{"bits": 12}, {"bits": 32}])
def test_more_than_eight_bits_are_no_int8(numbers):
    assert int8_form(quantized(policy(), **numbers).module) is None
