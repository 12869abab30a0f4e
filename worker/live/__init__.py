"""Live answers: one thread owns the models; activations and steering, batched across callers.

A request comes in at `server`, is checked and tokenised by `prepare` (with what `library` holds),
and crosses to the model `thread`, which runs one step of each `engine` (generation) and one batch
of each `capture` (activations) in turn. `search` ranks features by what captures find, or by their
weights. Shapes: n rows, t positions, w width of a site, v vocabulary, f features.
"""
