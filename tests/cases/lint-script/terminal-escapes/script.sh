LR=2e-4 LOAD=$'/a' SAVE='/b]0;owned[2J' GLOBAL_BATCH=8 TRAIN_ITERS=11 bash train_alcf.sh '--no[31msuch'
