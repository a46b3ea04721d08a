#!/bin/bash -l
#PBS -A AuroraGPT
#PBS -q prod
#PBS -l select=16
#PBS -l walltime=06:00:00,filesystems=flare:home
#PBS -j oe

cd "${PBS_O_WORKDIR}" || exit 1
module load frameworks

# The cookbook's replay + rewarm of agpt-7B, with what today's launcher needs.
export MODEL_ARCH=7B
export TOKENIZER_TYPE=Llama2Tokenizer
export TOKENIZER_MODEL=ALCF/tokenizer.model
export ROPE_THETA=10000
export DATA_FILE_LIST=./ALCF/data-lists/aurora/mix_lucid_papers09_dolma01.txt
export LOAD=/flare/AuroraGPT/AuroraGPT-v0/checkpoint-copies/checkpoints/ws768_ds_stage1_nl32_hs4096_mb1_seq4096_gb3072_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash
export SAVE=/flare/AuroraGPT/cpt/papers
export CKPT_DIR=$SAVE
export GLOBAL_BATCH=3072
export GRAD_ACC_STEPS=16
export LR=0.0002
export LR_WARMUP_FRAC=0.01
export TRAIN_ITERS=1749

bash train_alcf.sh --universal-checkpoint --finetune --exit-duration-in-mins=330
