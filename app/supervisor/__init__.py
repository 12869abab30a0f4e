"""`saescope up`: the three processes on one machine.

up is the whole; checks and lock refuse what cannot work; children start, watch and end the
processes, each on a leash; first_start fills an empty data folder with what came along.
"""
