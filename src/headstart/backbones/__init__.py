"""Pretrained networks, and the embedder graphs made of them."""
