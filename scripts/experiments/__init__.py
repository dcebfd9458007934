"""One module a paper: ``run(config) -> rlsuite.experiment.Result``; its numbers stand in rlsuite/conf/paper/."""
