"""Train an agent, score it, load it again and act: ``python train_and_load.py [STEPS] [RUN_DIR]``."""

import sys

from agents import load, train

steps, run_dir = int((sys.argv[1:] or ["20000"])[0]), (sys.argv[2:] or ["runs/pendulum"])[0]
run = train("td3", "InvertedPendulum", steps=steps, seed=1, run_dir=run_dir)
scored = run.evaluate(episodes=20)
print(f"{scored.mean:.1f} over {len(scored.returns)} episodes")

policy = load(run_dir)
env = policy.make_env(1)
observation, _ = env.reset(seed=0)
for _ in range(10):
    observation, reward, terminated, truncated, info = env.step(policy.act(observation))
print("seen last:", observation[0].tolist())
