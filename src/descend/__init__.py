"""Train neural networks on purpose."""
