"""Plot the learning curves of runs: ``python plot_runs.py OUTPUT.png RUN_DIR [RUN_DIR ...]``; needs the extra plots."""

import sys

import matplotlib

matplotlib.use("Agg")  # no window
import matplotlib.pyplot as plt

from rlsuite.statistics.runs import read_runs

if len(sys.argv) < 3:
    sys.exit(__doc__)
figure, axis = plt.subplots()
for run in read_runs(sys.argv[2:]):
    axis.plot(run.steps, run.metric("return"), label=f"{run.label}, seed {run.seed}")
axis.set_xlabel("environment steps")
axis.set_ylabel("return")
axis.legend()
figure.savefig(sys.argv[1])
