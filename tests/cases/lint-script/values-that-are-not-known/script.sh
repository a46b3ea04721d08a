#!/bin/bash -l
#PBS -A AuroraGPT
#PBS -q prod
#PBS -l select=256
#PBS -l walltime=06:00:00,filesystems=flare:home
#PBS -j oe

cd "${PBS_O_WORKDIR}" || exit 1
module load frameworks

source ~/experiments/common.sh
NODES=$(wc -l < "$PBS_NODEFILE")
if [ -n "$1" ]; then
    export LR=$1
fi
for SEED in 1 2 3; do
    export SAVE=/flare/AuroraGPT/lr-sweep-$SEED CKPT_DIR=/flare/AuroraGPT/lr-sweep-$SEED
    GLOBAL_BATCH=$((NODES * 24)) TRAIN_ITERS=1000 LOAD=$SAVE bash train_alcf.sh --seed=$SEED |& tee log-$SEED
done
