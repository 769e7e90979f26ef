#!/bin/sh
# Count the words of the texts named on the command line; the most frequent go into results.txt.
set -eu

words_of() {
    tr '[:upper:]' '[:lower:]' < "$1" | tr -cs "[:alpha:]'" '[\n*]' | sed '/^$/d'
}

: > words.txt
seen=0
for text in "$@"; do
    words_of "$text" >> words.txt
    seen=$((seen + 1))
    echo "$((100 * seen / $#))%  $text: $(words_of "$text" | wc -l) words"
    sleep 0.4 # a short text is counted too fast to watch
done

sort words.txt | uniq -c | sort -k1,1nr -k2 | awk '$1 > 1 { printf "%4d  %s\n", $1, $2 }' > results.txt
rm words.txt
echo "the most frequent: $(awk '{ print $2 }' results.txt | head -n 5 | tr '\n' ' ')"
