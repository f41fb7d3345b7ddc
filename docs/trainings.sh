#!/usr/bin/env bash
# Every training behind docs/results.md. Two run at a time, on a thread each; what is finished is not run again, and what was
# stopped goes on. Then the records are copied to docs/runs and the page is written anew.
#
#     docs/trainings.sh [PATTERN]      only those whose name fits, such as 'smnist*'
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${RUNS:-runs/results}
pattern=${1:-*}
export OMP_NUM_THREADS=1 PATH="$PWD/.venv/bin:$PATH" folder pattern

# name, seeds, and what stands after `longwave train`
trainings() {
    cat <<'LIST'
ucr-JapaneseVowels-s4d 0,1,2 ucr --data.problem JapaneseVowels
ucr-BasicMotions-s4d   0,1,2 ucr --data.problem BasicMotions
smnist-s4d-legs        0,1,2 smnist --data.source mnist
smnist-s4d-random      0,1,2 smnist --data.source mnist --model.mixer.init random
fsdd-s4d               0     fsdd
pmnist-s4d             0     smnist --data.source mnist --data.permuted true
smnist-lru             0     smnist --data.source mnist --model.mixer LRU
LIST
}

train() {
    local name=$1 words=("${@:2}")
    # shellcheck disable=SC2053  (a pattern is meant)
    [[ $name == $pattern ]] || return 0
    mkdir -p "$folder"
    if longwave train "${words[@]}" --run "$folder/$name" >>"$folder/$name.log" 2>&1; then
        mkdir -p "docs/runs/$name"
        cp "$folder/$name"/{config.yaml,metrics.csv,results.json} "docs/runs/$name/"
        echo "$name: finished"
    else
        echo "$name: failed, see $folder/$name.log"
    fi
}
export -f train

trainings | while read -r name seeds words; do
    for seed in ${seeds//,/ }; do echo "$name-$seed $words --seed $seed"; done
done | xargs -P 2 -L 1 bash -c 'train "$@"' _
longwave results docs/runs/* --out docs/results.md
