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
    local copying="copying --data.memory 128 --data.symbols 64 --data.lag 0 --data.train_samples 2000"
    copying+=" --model.n_layers 4 --optim.lr 1e-3 --trainer.batch_size 8"
    local wide="--data.memory 4 --data.held_out 500 --model.d_model 64 --trainer.epochs 8"
    cat <<LIST
ucr-JapaneseVowels-s4d 0,1,2 ucr --data.problem JapaneseVowels
ucr-BasicMotions-s4d   0,1,2 ucr --data.problem BasicMotions
smnist-s4d-legs        0,1,2 smnist --data.source mnist
smnist-s4d-random      0,1,2 smnist --data.source mnist --model.mixer.init random
fsdd-s4d               0     fsdd
pmnist-s4d             0     smnist --data.source mnist --data.permuted true
smnist-lru             0     smnist --data.source mnist --model.mixer LRU
copying-rtf            0     $copying --trainer.epochs 3 --model.mixer RTF --model.mixer.d_state 64 --model.mixer.l_max 256
copying-s4             0     $copying --trainer.epochs 3 --model.mixer S4 --model.mixer.d_state 64
copying-s4-long        0     $copying --trainer.epochs 8 --model.mixer S4 --model.mixer.d_state 64
delay-rtf              0     delay --model.mixer RTF --model.mixer.d_state 256 --model.mixer.l_max 1000
delay-s4               0     delay --model.mixer S4 --model.mixer.d_state 256
delay-s4d              0     delay --model.mixer S4D --model.mixer.d_state 256
delay-lmu              0     delay --model.mixer LMU --model.mixer.theta 250 --model.mixer.d_state 256
induction_heads        0     induction_heads
selective_copying-mamba 0    selective_copying
selective_copying-s4d  0     selective_copying --model.mixer S4D
selective_copying-mamba-wide 0 selective_copying $wide
selective_copying-s4d-wide 0 selective_copying $wide --model.mixer S4D
parity-mamba3          0     parity
parity-mamba2          0     parity --model.mixer Mamba2
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
