"""The network for other runtimes: PyTorch, ONNX and StableHLO, each compared with JAX before it is kept."""
