#!/bin/sh
#QM info = A walk that breaks off half-way, and is taken up by the next attempt
#QM attempts = 3
#QM error_time = 1
#QM error_backoff = 2
#QM wall_time = 1m
#QM mem = 256M
#
# The first attempt fails on purpose. A second later QM tries again, with QM_ATTEMPT = 2; the output of the first is
# then in process.log.1. Over a minute, or over 256 MiB, it would be ended.
set -eu

python3 walk.py
