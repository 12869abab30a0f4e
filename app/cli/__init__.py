"""The command `saescope`.

main puts it together; service runs the processes; submit and jobs are about jobs, watch shows one;
backup and gc look after the data. Commands import what they need when they run, so that `--help`
and `serve` start quickly.
"""
