"""MODNet, BackgroundMattingV2 and U²-Net for other runtimes: their graphs, and the same in PyTorch."""
