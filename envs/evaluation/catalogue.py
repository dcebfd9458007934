"""How networks are judged, by name: what is done to them, what attacks them. One line a method.

`rlsuite.methods.choose(EVALUATIONS, ["quantization/pams"], {"pams.bits": 4})` gives configured ones.
"""

EVALUATIONS: dict[str, str] = {
    "quantization/balanced": "envs.evaluation.quantization.balanced:Balanced",
    "quantization/pams": "envs.evaluation.quantization.pams:PAMS",
}
