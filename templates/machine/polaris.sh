# Polaris: compute nodes reach the network, from which the launcher loads ezpz, through the site's proxy; Python comes
# from the conda module.
export http_proxy=http://proxy.alcf.anl.gov:3128 https_proxy=http://proxy.alcf.anl.gov:3128
module use /soft/modulefiles || exit 72
module load conda/2025-09-25 || exit 72
conda activate base || exit 72
