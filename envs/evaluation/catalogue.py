"""How networks are judged, by name: what is done to them, what attacks them. One line a method.

`rlsuite.methods.choose(EVALUATIONS, ["quantization/pams"], {"pams.bits": 4})` gives configured ones.
"""

EVALUATIONS: dict[str, str] = {
    "attacks/fgsm": "envs.evaluation.attacks.gradient:FGSM",
    "attacks/harmonic": "envs.evaluation.attacks.harmonic:HAAM",
    "attacks/mi_fgsm": "envs.evaluation.attacks.momentum:MIFGSM",
    "attacks/noise": "envs.evaluation.attacks.noise:Noise",
    "attacks/pgd": "envs.evaluation.attacks.gradient:PGD",
    "defences/gred": "envs.evaluation.defences.gred:GRED",
    "pruning/cogd": "envs.evaluation.pruning.cogd:CoGD",
    "pruning/hrank": "envs.evaluation.pruning.hrank:HRank",
    "pruning/l1": "envs.evaluation.pruning.l1:L1",
    "pruning/random": "envs.evaluation.pruning.random:Random",
    "quantization/adabits": "envs.evaluation.quantization.adabits:AdaBits",
    "quantization/addernet": "envs.evaluation.quantization.addernet:AdderNet",
    "quantization/balanced": "envs.evaluation.quantization.balanced:Balanced",
    "quantization/bn_fixed_point": "envs.evaluation.quantization.bn_fixed_point:BNFixedPoint",
    "quantization/brelu": "envs.evaluation.quantization.brelu:BReLU",
    "quantization/fracbits": "envs.evaluation.quantization.fracbits:FracBits",
    "quantization/pams": "envs.evaluation.quantization.pams:PAMS",
    "quantization/quantization_networks": "envs.evaluation.quantization.quantization_networks:QuantizationNetworks",
    "quantization/rbnn": "envs.evaluation.quantization.rbnn:RBNN",
    "quantization/sat": "envs.evaluation.quantization.sat:SAT",
    "regularization/disout": "envs.evaluation.regularization.disout:Disout",
    "regularization/itid": "envs.evaluation.regularization.itid:ITID",
    "search/abandit_nas": "envs.evaluation.search.abandit_nas:ABanditNAS",
    "search/assessor": "envs.evaluation.search.assessor_search:AssessorSearch",
    "search/atomnas": "envs.evaluation.search.atomnas:AtomNAS",
    "search/autonl": "envs.evaluation.search.autonl:AutoNL",
    "search/autospace": "envs.evaluation.search.autospace:AutoSpace",
    "search/bnas": "envs.evaluation.search.bnas:BNAS",
    "search/cars": "envs.evaluation.search.cars:CARSSearch",
    "search/cp_nas": "envs.evaluation.search.cp_nas:CPNAS",
    "search/nas_count": "envs.evaluation.search.nas_count:NASCount",
    "search/ncp": "envs.evaluation.search.ncp:NCP",
}
