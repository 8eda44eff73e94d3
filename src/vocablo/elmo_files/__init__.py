"""Published ELMo weights: options (JSON) and weights (HDF5) as the family ``elmo``."""
