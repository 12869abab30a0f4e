"""The type checker that jaxtyping puts onto the worker's functions in tests: an int is a float."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
