export SAVE=/flare/AuroraGPT/stage-2
LR=0.0001
qsub -A AuroraGPT -q prod -l select=256 -l walltime=06:00:00,filesystems=flare:home \
    -v MODEL_ARCH=2B,LR=0.0002,LR_DECAY_STYLE=constant,TRAIN_ITERS=140001,GLOBAL_BATCH=6144,GRAD_ACC_STEPS=2 train_alcf.sh
