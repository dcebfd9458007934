"""How networks are judged, by name: what is done to them, what attacks them. One line a method.

`rlsuite.methods.choose(EVALUATIONS, ["quantization/pams"], {"pams.bits": 4})` gives configured ones.
"""

EVALUATIONS: dict[str, str] = {
    "quantization/balanced": "envs.evaluation.quantization.balanced:Balanced",
    "quantization/pams": "envs.evaluation.quantization.pams:PAMS",
    "pruning/hrank": "envs.evaluation.pruning.hrank:HRank",
    "pruning/l1": "envs.evaluation.pruning.l1:L1",
    "pruning/random": "envs.evaluation.pruning.random:Random",
}
