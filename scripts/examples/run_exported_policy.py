"""Run an exported policy in plain Gymnasium: ``python run_exported_policy.py policy.onnx Humanoid-v5 [EPISODES]``."""

import sys

import gymnasium
import numpy
import onnxruntime

if len(sys.argv) < 3:
    sys.exit(__doc__)
policy, env = onnxruntime.InferenceSession(sys.argv[1]), gymnasium.make(sys.argv[2])
dtype = {"tensor(float)": "float32", "tensor(double)": "float64"}[policy.get_inputs()[0].type]
for seed in range(int((sys.argv[3:] or ["1"])[0])):
    observation, _ = env.reset(seed=seed)
    total, ended = 0.0, False
    while not ended:
        if isinstance(observation, dict):  # of a task with goals
            observation = numpy.concatenate([observation["observation"], observation["desired_goal"]])
        (action,) = policy.run(None, {"observation": observation[None].astype(dtype)})
        observation, reward, terminated, truncated, _ = env.step(numpy.asarray(action)[0])
        total, ended = total + float(reward), terminated or truncated
    print(total)
