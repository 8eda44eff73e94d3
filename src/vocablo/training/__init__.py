"""The one loop and all that remembers around it; the only user of ``torch.distributed``."""
