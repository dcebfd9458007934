"""A paper's reproduction: numbers set beforehand, jobs that survive a kill, claims with their bars, one JSON file.

claims.py     an inequality with its margin, and its verdict
jobs.py       arms x seeds as jobs, each run once and its result kept
kinds.py      what a job can be: a function, or any command
processes.py  subprocesses that end with this one; progress
worker.py     a subprocess: one function of one job
results.py    docs/results/<paper>.json: written whole, read back
frame.py      a module of scripts/experiments/ as an experiment: its numbers, its --help, its run
papers.py     docs/papers.yaml, and the table made from it
"""

from rlsuite.experiment.claims import FAILS, HOLDS, Claim, Result
from rlsuite.experiment.results import commit, write_result

__all__ = ["FAILS", "HOLDS", "Claim", "Result", "commit", "write_result"]
