"""Training an SAE: settings → order → windows of activations → SAELens' trainer → export."""
