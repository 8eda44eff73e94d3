"""ARPA files, the text format of n-gram models that SRILM, KenLM and others write: file <-> (n-gram, word tokenizer).

    \\data\\                     log10 p(w | h) = the n-gram's own number, where h w is in the file
    ngram 1=3                                   b(h) + log10 p(w | h') otherwise, with h' = h without its first word
    ngram 2=1                                   and b(h) = 0 where h isn't in the file
    \\1-grams:
    -99    <s>    -0.3        <s> stands before a sentence and is never predicted, </s> ends it: both are our one <end>.
    -0.5   </s>               n-grams with <s> behind their first place or </s> before their last can't be asked for
    -0.2   word   -0.1        and are left out. A file needs both; one without <unk> gives unknown words
    \\2-grams:                 log10 p = -100, as KenLM does.
    -0.1   <s> word
    \\end\\

Our tables need the first k - 1 words of every k-gram as an entry; pruned files lack some. Those get the probability that
the definition gives them, and b = 0, so nothing changes. Files may be compressed with gzip (``.arpa.gz``). log10 is the file's
unit, nats are the model's.
"""
