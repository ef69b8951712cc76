"""Which kernels compute the inner loops of the networks on this device."""
