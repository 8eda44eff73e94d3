"""The tables of the lecture's slides on BERT (Devlin et al. 2019), one a file: the published columns, and how ours are made."""
