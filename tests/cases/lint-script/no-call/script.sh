#!/bin/bash -l
#PBS -A AuroraGPT
#PBS -q prod
#PBS -l select=256
#PBS -l walltime=06:00:00,filesystems=flare:home
#PBS -j oe

cd "${PBS_O_WORKDIR}" || exit 1
module load frameworks

qsub stage-2.sh
