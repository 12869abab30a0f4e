"""SAEs and transcoders in other formats than SAELens', read without running anything in them."""
