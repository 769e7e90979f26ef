#!/bin/sh
#QM array = 1-6
#QM info = How many primes? An array: task n counts those in the n-th hundred thousand
#QM wall_time = 1m
#
# One folder, one job, six tasks. Each writes a file of its own and has a log of its own, process.<task>.log.
# `qm show primes_array --tasks` lists them. By hand: QM_ARRAY_TASK_ID=3 sh job.sh
set -eu

python3 primes.py "$QM_ARRAY_TASK_ID" | tee "primes-$QM_ARRAY_TASK_ID.txt"
