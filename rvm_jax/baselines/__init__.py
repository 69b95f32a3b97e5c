"""The networks that RVM is weighed against, in Flax: MODNet, BackgroundMattingV2 and U²-Net.

Each has the arithmetic and the entry names of its released PyTorch code, on the layers of `rvm_jax.model`. None of the
three keeps anything from frame to frame. They are functions of their variables, as RVM's network is:

    network = MattingRefine("resnet50")
    output = network.apply(variables, source, background)
"""
