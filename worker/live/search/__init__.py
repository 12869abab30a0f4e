"""Finding features: sources (which SAEs) → texts or vector → ranking → answer."""
