# Polaris: Python comes from the conda module.
export http_proxy=http://proxy.alcf.anl.gov:3128 https_proxy=http://proxy.alcf.anl.gov:3128
module use /soft/modulefiles
module load conda/2025-09-25
conda activate base
