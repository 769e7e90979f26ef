#!/bin/sh
#QM nb_proc = 2
#QM info = How many fall ill? An epidemic for each of twelve rates of infection
#
# One program over a list of values, NB_PROC at a time; each writes a line of results.csv.
set -eu

set -- 0.8 1.0 1.2 1.4 1.6 1.8 2.0 2.4 2.8 3.2 4.0 5.0
export COUNT=$#

rm -rf parts
mkdir parts
printf '%s\n' "$@" | xargs -n 1 -P "${NB_PROC:-1}" sh -ec '
    python3 epidemic.py "$1" > "parts/$1.running"
    mv "parts/$1.running" "parts/$1.csv"
    set -- "$1" parts/*.csv
    echo "rate $1 done: $(($# - 1)) / $COUNT"
' sh

{
    echo "rate,ill,most_at_once,days"
    cat parts/*.csv
} > results.csv
rm -r parts
