"""A small GPT behind the Megatron-DeepSpeed launcher's variables, flags, log lines and checkpoints."""
