"""What a layer's neurons are made of, by an SAE on their hook point.

Neuron j is coordinate j of `blocks.{l}.mlp.hook_post`. At every token the SAE's reconstruction gives

    n_j = sum_i f_i d_i[j] + bias_j + rest_j

with f_i the activations (folded units), d_i the unit decoder rows, bias_j all that the reconstruction
holds besides (b_dec, what a normalisation took out), and rest_j its error.

Sums are taken over the peaks of the neuron's stored examples, each text once:

    share_i           sum_t f_i(t) d_i[j] / sum_t n_j(t); of bias and rest alike; they add up to 1
    unexplained       var_t rest_j(t) / var_t n_j(t)
    polysemanticity   exp(-sum_i p_i log p_i), p the positive shares, normalised: an effective number
                      of features, 1 where one feature is all, m where m features are equal

`peaks` finds the tokens, `contributions` runs the model and the SAE on them, `shares` sums, and
`run` does so for blocks of neurons.
"""
