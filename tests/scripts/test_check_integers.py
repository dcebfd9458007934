"""evaluate_agent.py output=int8.onnx and check_integers.py: whole numbers pass, a float between them does not."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from envs.evaluation.quantization.integer import Affine, IntegerNetwork, Product
from envs.evaluation.quantization.integer_onnx import onnx_session, run_onnx, write_onnx
from envs.evaluation.recipe import load_network
from rlsuite.cli import run_script
from scripts import check_integers, evaluate_agent, train_agent


@pytest.fixture
def path(tmp_path):
    network = IntegerNetwork([Product(0, (4, 3)), Affine(1)], (3,))
    network.steps[0].weight.fill_(3)
    network.steps[1].fill(5, 2, 3, low=0, high=127, least=-1000, most=1000)
    write_onnx(network, tmp_path / "int8.onnx", {"observation": "as it is"})
    return tmp_path / "int8.onnx"


def model_of(nodes, constants, kind, path):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind[0], ["rows", 3])],
        [helper.make_tensor_value_info("y", kind[1], ["rows", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return str(path)


WEIGHT = {"w": np.eye(3, dtype=np.int8)}


def test_whole_numbers_pass(path, capsys):
    assert check_integers.main([str(path)]) == 0
    told = capsys.readouterr().out
    assert "in the file:\n  MatMulInteger: observation int8, constant_0 int8 -> value_0 int32" in told
    assert "as onnxruntime optimized it:" in told
    assert "BitShift" in told
    assert told.endswith("whole numbers alone\n")
    about = json.loads(onnx.load(str(path)).metadata_props[0].value)
    assert about == {"observation": "as it is"}


def test_a_float_between_whole_numbers_is_found(tmp_path, capsys):
    nodes = [
        helper.make_node("MatMulInteger", ["x", "w"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["y"], to=TensorProto.INT8),
    ]
    kind = (TensorProto.INT8, TensorProto.INT8)
    file = model_of(nodes, WEIGHT | {"scale": np.array(0.5, np.float32)}, kind, tmp_path / "a.onnx")
    assert check_integers.main([file]) == 1
    told = capsys.readouterr().out
    assert "Mul: floats float32, scale float32 -> scaled float32  FLOAT" in told
    assert "3 floats between" in told


def test_floats_at_doors_are_said_and_pass(tmp_path, capsys):
    nodes = [
        helper.make_node("Round", ["x"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["numbers"], to=TensorProto.INT8),
        helper.make_node("MatMulInteger", ["numbers", "w"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["y"], to=TensorProto.FLOAT),
    ]
    file = model_of(nodes, WEIGHT, (TensorProto.FLOAT, TensorProto.FLOAT), tmp_path / "doors.onnx")
    assert check_integers.main([file]) == 0
    assert "0 floats between, 3 at doors" in capsys.readouterr().out


def test_a_network_of_floats_fails(tmp_path, capsys):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    kind = (TensorProto.FLOAT, TensorProto.FLOAT)
    file = model_of(nodes, {"w": np.eye(3, dtype=np.float32)}, kind, tmp_path / "floats.onnx")
    assert check_integers.main([file]) == 1
    assert "0 products of whole numbers" in capsys.readouterr().out


def test_wrong_files_are_one_line(tmp_path, capsys):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    for arguments, message in (
        ([str(tmp_path / "bad.onnx")], "onnxruntime cannot run it"),
        ([str(tmp_path / "none.onnx")], "there is no such file"),
        ([str(tmp_path)], "name an ONNX file"),
    ):
        assert run_script(check_integers.main, arguments) == 2
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1


# -- from a trained policy ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("integers") / "run"
    small = ["steps=600", "agent.actor.hidden_sizes=[16,16]", "agent.critic.hidden_sizes=[16,16]", "num_threads=1"]
    assert (
        train_agent.main(["agent=td3", "env=Reacher", "preset=debug", "device=cpu", f"run_dir={folder}", *small]) == 0
    )
    return folder


FEW = ["episodes=2", "num_threads=1", "states=300", "brelu.teach.fit.steps=20", "brelu.weights.fit.steps=20"]
FEW += ["brelu.teach.rounds=1"]


def test_a_trained_policy_becomes_a_file_of_whole_numbers(run, tmp_path, capsys):
    output = tmp_path / "int8.onnx"
    arguments = [f"run={run}", "evaluation=quantization/brelu", f"output={output}", *FEW]
    assert evaluate_agent.main(arguments) == 0
    told = capsys.readouterr().out
    assert f"written to {output}; check it with:" in told
    assert check_integers.main([str(output)]) == 0
    model = load_network(run / "evaluations" / "brelu" / "policy.safetensors")[0]
    observation = torch.randn(50, model.enter.normalizer.mean.shape[-1], generator=torch.Generator().manual_seed(0))
    numbers = model.enter(observation)
    entries = run_onnx(onnx_session(output.read_bytes()), numbers.numpy())
    assert entries.dtype == np.int16
    assert torch.equal(model.leave(torch.from_numpy(entries)), model(observation))
    # The file's own words are enough to run it elsewhere.
    about = json.loads(onnx.load(str(output)).metadata_props[0].value)
    clipped = np.clip((observation.numpy() - np.float32(about["center"])) * np.float32(about["scale"]), -10, 10)
    assert np.array_equal(np.clip(np.round(clipped * np.float32(about["ratio"])), -128, 127), numbers.numpy())
    actions = np.clip(entries * np.array(about["scale_of_numbers"]) + about["offset"], -1, 1)
    actions = actions * np.array(about["half_range"]) + np.array(about["center_of_actions"])
    np.testing.assert_allclose(actions, model(observation).numpy(), atol=1e-6)


def test_what_cannot_be_written_is_refused_before_anything_is_learned(run, tmp_path, capsys):
    for arguments, message in (
        (["evaluation=pruning/l1", f"output={tmp_path / 'a.onnx'}"], "end with evaluation=quantization/brelu"),
        ([f"output={tmp_path / 'a.onnx'}"], "add evaluation=quantization/brelu"),
        (["evaluation=attacks/fgsm", f"output={tmp_path / 'a.onnx'}"], "attacks write no file; leave out output="),
        (["evaluation=quantization/bn_fixed_point"], "the network is not quantized; quantize it first"),
        (["evaluation=quantization/brelu", "brelu.levels=300"], "levels=300: use 1 to 127"),
    ):
        assert run_script(evaluate_agent.main, [f"run={run}", *arguments]) == 2
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1
    assert not (tmp_path / "a.onnx").exists()
