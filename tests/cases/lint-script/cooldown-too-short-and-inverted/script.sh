#!/bin/bash -l
#PBS -A AuroraGPT
#PBS -q prod
#PBS -l select=256
#PBS -l walltime=06:00:00,filesystems=flare:home
#PBS -j oe

cd "${PBS_O_WORKDIR}" || exit 1
module load frameworks

export MODEL_ARCH=AuroraGPT-2B
export DATA_FILE_LIST=ALCF/data-lists/aurora/reasoning.txt
export SAVE=/flare/AuroraGPT/stage-4
export CKPT_DIR=$SAVE
export GLOBAL_BATCH=6144
export GRAD_ACC_STEPS=2
export LR=0.0002
export LR_DECAY_STYLE=constant
export LR_WARMUP_FRAC=0
export SAVE_INTERVAL=100
export LOAD=/flare/AuroraGPT/stage-3
export TRAIN_ITERS=140001
export OVERRIDE_CKPT_OPT_PARAM=1

bash train_alcf.sh \
    --override-opt_param-scheduler \
    --reset-iteration \
    --min-lr=2e-5 \
    --lr_constant_plus_cooldown \
    --lr_constant_plus_cooldown_frac=0.9
