"""What the shop does, whoever asks."""
