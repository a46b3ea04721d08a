"""Names of the trainer's flags, without their dashes, as its argument parser has them (fork ffa3456d, 2026-03).

The parser takes no abbreviations: a name that is not here ends the job before it starts.
"""

from __future__ import annotations

from typing import Final

_NAMES: Final = """
DDP-impl accumulate-allreduce-grads-in-fp32 adam-beta1 adam-beta2 adam-eps adjust-word-embedding-init
adlr-autoresume adlr-autoresume-interval aml-data-download-path apply-layernorm-1p
apply-residual-connection-post-layernorm attention-dropout attention-softmax-in-fp32 batch-size bert-embedder-type
bert-load bert-no-binary-head bf16 biencoder-projection-dim biencoder-shared-query-context-model
blend-sample-in-corpus block-data-path checkpoint-activations checkpoint-in-cpu checkpoint-num-layers
classes-fraction clip-grad constant-lr contigious-checkpointing cpu-optimizer cpu_torch_adam create-moe-param-group
data-cache-path data-efficiency-curriculum-learning data-file-list data-impl data-parallel-random-init data-path
data-per-class-fraction dataloader-type decoder-num-layers decoder-seq-length deepscale deepscale_config deepspeed
deepspeed-activation-checkpointing deepspeed_config deepspeed_mpi dino-bottleneck-size dino-freeze-last-layer
dino-head-hidden-size dino-local-crops-number dino-local-img-size dino-norm-last-layer dino-teacher-temp
dino-warmup-teacher-temp dino-warmup-teacher-temp-epochs disable-bias-linear disable-mem-efficient-ln
disable-moe-token-dropping disable-moe-top2-2nd-expert-sampling distribute-checkpointed-activations
distribute-saved-activations distributed-backend distributed-timeout-minutes ds-inference ds-sequence-parallel-size
ds_fused_adam dshampooadamw-eps dshampooadamw-max-preconditioner-dim dshampooadamw-precondition-freq
dshampooadamw-use-decoupled-weight-decay embedding-path embedding-weights-in-fp32 empty-unused-memory-level
enable-expert-tensor-parallelism enable-zbh1-exact-semantics enable-zbh1-pipeline encoder-num-layers
encoder-seq-length end-weight-decay eod-mask-loss eval-interval eval-iters evidence-data-path exit-duration-in-mins
exit-interval exit-on-missing-checkpoint exit-signal-handler expert-interval ffn-hidden-size finetune
force-ds-sequence-parallel fp16 fp16-lm-cross-entropy fp32-residual-connection fp8-amax-compute-algo
fp8-amax-history-len fp8-e4m3 fp8-hybrid fp8-interval fp8-margin global-batch-size head-lr-mult help hidden-dropout
hidden-size hidden-size-teacher hysteresis ict-head-size ict-load img-h img-w indexer-batch-size
indexer-log-interval inference inference-batch-times-seqlen-threshold init-method-std init-method-xavier-uniform
initial-loss-scale iter-per-epoch kd kd-alpha-ce kd-beta-ce kd-temp kill-switch-file kv-channels layernorm-epsilon
lazy-mpu-init load load-tag load-teacher local-rank local_rank log-batch-size-to-tensorboard log-interval
log-memory-to-tensorboard log-num-zeros-in-grad log-optimizer-states-to-tensorboard log-params-norm
log-timers-to-tensorboard log-validation-ppl-to-tensorboard log-world-size-to-tensorboard loss-scale
loss-scale-window lr lr-constant-fraction lr-constant-tokens lr-cooldown-fraction lr-cooldown-tokens lr-decay-iters
lr-decay-samples lr-decay-style lr-decay-tokens lr-finder lr-warmup-fraction lr-warmup-iters lr-warmup-samples
lr-warmup-tokens lr_constant_plus_cooldown lr_constant_plus_cooldown_frac make-vocab-size-divisible-by mask-factor
mask-prob mask-type max-position-embeddings max-tokens-to-oom memory-centric-tiled-linear merge-file
micro-batch-size min-loss-scale min-lr mlp-type mmap-warmup model-parallel-size moe-eval-capacity-factor
moe-expert-parallel-size moe-loss-coeff moe-min-capacity moe-train-capacity-factor mos multiprocessing-context
muon-momentum muon-nesterov muon-ns-steps muonadamw-beta1 muonadamw-beta2 muonadamw-eps muonclip-alpha muonclip-t
no-async-tensor-model-parallel-allreduce no-barrier-with-level-1-timing no-bias-dropout-fusion no-bias-gelu-fusion
no-contiguous-buffers-in-local-ddp no-data-sharding no-fp8-wgrad no-gradient-accumulation-fusion no-initialization
no-load-lr-state no-load-optim no-load-rng no-log-learnig-rate-to-tensorboard no-log-loss-scale-to-tensorboard
no-masked-softmax-fusion no-persist-layer-norm no-pipeline-parallel no-position-embedding no-query-key-layer-scaling
no-save-optim no-save-rng no-scatter-gather-tensors-in-pipeline normalization num-attention-heads
num-attention-heads-teacher num-channels num-classes num-experts num-experts-switch num-experts-teacher
num-key-value-heads num-layers num-layers-per-virtual-pipeline-stage num-layers-teacher num-workers onnx-safe
openai-gelu optimizer output-bert-embeddings overlap-p2p-communication override-opt_param-scheduler
partition-activations patch-dim pipeline-model-parallel-size pipeline-model-parallel-split-rank profile
profile-backward profile-ranks profile_steps query-in-block-prob rampup-batch-size random-ltd recompute-activations
recompute-granularity recompute-method recompute-num-layers remote-device repeated-dataloader reset-attention-mask
reset-iteration reset-position-ids retriever-report-topk-accuracies retriever-score-scaling retriever-seq-length
retro-add-retriever retro-cyclic-train-iters retro-encoder-attention-dropout retro-encoder-hidden-dropout
retro-encoder-layers retro-num-neighbors retro-num-retrieved-chunks retro-return-doc-ids retro-workdir
return-data-index rotary-percent rotary-position-embeddings-theta sample-rate save save-interval
scattered-embeddings schedulefree-for-each seed seq-length sequence-parallel sgd-momentum short-seq-prob
shuffle-sample-in-corpus skip-train sophiag-beta1 sophiag-beta2 sophiag-rho split split-transformers squared-relu
standalone-embedding-stage start-weight-decay swiglu swin-backbone-type synchronize-each-layer
tensor-model-parallel-size tensorboard-dir tensorboard-log-interval tensorboard-queue-size test-data-path
tile-factor timescale timing-log-level timing-log-option titles-data-path tokenizer-model tokenizer-type topk
trace-dir train-data-exact-num-epochs train-data-path train-desc-path train-doc-idx-path train-idx-path train-iters
train-iters-to-skip train-range-to-skip train-sample-idx-path train-samples train-shuffle-idx-path train-tokens
transformer-impl trust-remote-code universal-checkpoint untie-embeddings-and-output-weights use-checkpoint-args
use-checkpoint-opt_param-scheduler use-cpu-initialization use-dataset-only use-distributed-optimizer use-flash-attn
use-flash-attn-builder use-flash-attn-triton use-flash-attn-v1 use-flash-attn-v2 use-mics use-one-sent-docs
use-pin-memory use-ring-exchange-p2p use-rotary-position-embeddings use-tutel valid-data-path vision-backbone-type
vision-pretraining vision-pretraining-type vocab-extra-ids vocab-file vocab-size wandb-exp-name wandb-project
wandb-save-dir warmup weight-decay weight-decay-incr-style word-embedding-init-std zero-allgather-bucket-size
zero-contigious-gradients zero-reduce-bucket-size zero-reduce-scatter zero-stage
"""
FLAGS: Final = frozenset(_NAMES.split())
SPECIAL_TO_SHELL: Final = frozenset("$`\"'\\;&|<>()*?[]{}!")
"""Characters that a second shell acts on: the launcher joins everything into one string for `bash -c`.

A word that begins with ~ or # is read again too."""
SWITCHES: Final = frozenset(
    {"finetune", "reset-iteration", "universal-checkpoint", "skip-train", "no-load-rng", "no-load-optim",
     "no-load-lr-state", "override-opt_param-scheduler", "use-checkpoint-opt_param-scheduler",
     "lr_constant_plus_cooldown", "exit-signal-handler", "exit-on-missing-checkpoint"}
)  # fmt: skip
"""Flags without a value that decide what is loaded or the rate: the word after one is none of theirs."""
BEFORE_EXTRA: Final = frozenset({"lr", "lr-decay-style", "lr-warmup-fraction", "lr-decay-iters"})
"""Flags that the launcher gives before a person's: the later one counts, so these can be replaced."""
AFTER_EXTRA: Final = {
    "adam-beta1": "ADAM_BETA1",
    "adam-beta2": "ADAM_BETA2",
    "adam-eps": "ADAM_EPS",
    "clip-grad": "CLIP_GRAD",
    "data-file-list": "DATA_FILE_LIST",
    "data-cache-path": "CKPT_DIR",
    "ds-sequence-parallel-size": "SP",
    "eval-interval": "EVAL_INTERVAL",
    "eval-iters": "EVAL_ITERS",
    "ffn-hidden-size": "",
    "global-batch-size": "GLOBAL_BATCH",
    "hidden-size": "HIDDEN",
    "load": "LOAD",
    "log-interval": "LOG_INTERVAL",
    "max-position-embeddings": "SEQ",
    "micro-batch-size": "MICRO_BATCH",
    "num-attention-heads": "HEADS",
    "num-layers": "NLAYERS",
    "optimizer": "OPT",
    "pipeline-model-parallel-size": "PP",
    "rotary-position-embeddings-theta": "ROPE_THETA",
    "save": "SAVE",
    "save-interval": "SAVE_INTERVAL",
    "seq-length": "SEQ",
    "split": "TRAIN_SPLIT, VAL_SPLIT, TEST_SPLIT",
    "tensor-model-parallel-size": "TP",
    "timing-log-level": "TIMING_LOG_LEVEL",
    "tokenizer-model": "TOKENIZER_MODEL",
    "tokenizer-type": "TOKENIZER_TYPE",
    "train-iters": "TRAIN_ITERS",
    "weight-decay": "WEIGHT_DECAY",
    "word-embedding-init-std": "",
    "init-method-std": "",
    "zero-stage": "ZERO_STAGE",
}
"""Flags that the launcher gives after a person's, which therefore do nothing there, and the variable that sets them."""
READ_BY_NOTHING: Final = {
    "LR_WARMUP_FRACTION": "LR_WARMUP_FRAC",
    "LR_WARMUP_ITERS": "LR_WARMUP_FRAC",
    "LR_WARMUP": "LR_WARMUP_FRAC",
    "WARMUP_FRAC": "LR_WARMUP_FRAC",
    "SEQ_LEN": "SEQ",
    "SEQ_LENGTH": "SEQ",
    "SEQUENCE_LENGTH": "SEQ",
    "MIN_LR": "--min-lr=VALUE after train_alcf.sh",
    "LR_MIN": "--min-lr=VALUE after train_alcf.sh",
    "GLOBAL_BATCH_SIZE": "GLOBAL_BATCH",
    "GBS": "GLOBAL_BATCH",
    "MICRO_BATCH_SIZE": "MICRO_BATCH",
    "MBS": "MICRO_BATCH",
    "GAS": "GRAD_ACC_STEPS",
    "GRADIENT_ACCUMULATION_STEPS": "GRAD_ACC_STEPS",
    "LEARNING_RATE": "LR",
    "DECAY_STYLE": "LR_DECAY_STYLE",
    "LR_SCHEDULER": "LR_DECAY_STYLE",
    "OVERRIDE_OPT_PARAM": "OVERRIDE_CKPT_OPT_PARAM",
    "OVERRIDE_CKPT_OPT_PARAMS": "OVERRIDE_CKPT_OPT_PARAM",
    "TRAIN_TOKEN": "TRAIN_TOKENS",
    "LOAD_DIR": "LOAD",
    "SAVE_DIR": "SAVE",
    "CHECKPOINT_DIR": "CKPT_DIR",
    "DATA_LIST": "DATA_FILE_LIST",
    "SEED": "--seed=VALUE after train_alcf.sh",
    "EXIT_INTERVAL": "--exit-interval=VALUE after train_alcf.sh",
    "EXIT_DURATION": "--exit-duration-in-mins=VALUE after train_alcf.sh",
    "WANDB_DISABLED": "WANDB_MODE=disabled",
}
"""Variables that people set and the launcher does not read, with what it does read."""
