"""The inner loops of the networks: fused element-wise work, attention, and which of them a device runs."""
