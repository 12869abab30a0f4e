"""A feature on the shelf as the rows that Neuronpedia keeps of it: what exports write and its API
answers with.

shelf → `page` (`shelved`) → rows (`render`).
"""
