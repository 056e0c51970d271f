"""Learning: credit, losses, batches, priming, the training loop."""
