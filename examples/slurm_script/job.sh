#!/bin/sh
#SBATCH --job-name=needles
#SBATCH --comment="Buffon's needles: pi from throwing needles on a floor of boards"
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=64M
#SBATCH --time=00:05:00

# The same file, unchanged: `sbatch job.sh` on a cluster, or this folder copied into QM_qJobs.
set -eu

ROUNDS=20
NEEDLES=700000 # a round

# A needle as long as the boards are wide crosses a gap with probability 2 / pi.
crossings() {
    awk -v seed="$1" -v needles="$NEEDLES" 'BEGIN {
        srand(seed)
        turn = atan2(0, -1)
        for (i = 0; i < needles; i++)
            if (rand() < sin(rand() * turn)) crossed++
        print crossed
    }'
}

crossed=0
round=0
while [ "$round" -lt "$ROUNDS" ]; do
    round=$((round + 1))
    crossed=$((crossed + $(crossings "$round")))
    printf '\rthrowing: %3d%%' $((100 * round / ROUNDS))
done
echo

awk -v thrown=$((ROUNDS * NEEDLES)) -v crossed="$crossed" \
    'BEGIN { printf "%d needles, %d crossed a gap: pi = %.4f\n", thrown, crossed, 2 * thrown / crossed }' |
    tee results.txt
