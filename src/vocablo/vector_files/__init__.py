"""Files of word vectors: word2vec's text and binary formats, GloVe's text, fastText's .vec and .bin."""
