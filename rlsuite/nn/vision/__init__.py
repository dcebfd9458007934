"""Networks over pictures, by name: `Net(channels, size, outputs, config, seed)`, each with a frozen `Config`.

`rlsuite.methods.choose(NETWORKS, ("conv",), overrides)` gives a configured one; modules are imported when chosen.
"""

NETWORKS = {
    "bi_real": "rlsuite.nn.vision.bi_real:BiRealNet",
    "conv": "rlsuite.nn.vision.conv_net:ConvNet",
    "resnet20": "rlsuite.nn.vision.resnet:ResNet20",
    "u_net": "rlsuite.nn.vision.u_net:UNet",
    "edsr": "rlsuite.nn.vision.edsr:EDSR",
    "deep_vit": "rlsuite.nn.vision.deep_vit:DeepViT",
}
