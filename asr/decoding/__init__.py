"""Decoding: from encoder frames to tokens.

A search is one small object per stream. It takes the encoder output chunk by chunk, asks the engine
for predictor and joiner, and holds the tokens that it believes in so far: its best hypothesis. A
part of that is stable, which no later audio can change: for greedy search, all of it; for beam
search, what all hypotheses share. A search knows nothing of audio, text or time in seconds: the
stream feeds it, the transcript makes words of what it holds.

`hypothesis` has the vocabulary; `greedy` and `beam` are a search each. Beam search asks `fusion`
what to add to the transducer's belief, that the `language_model`, a model of words by `ngrams`.
"""
