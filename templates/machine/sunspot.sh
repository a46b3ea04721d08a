# Sunspot: compute nodes reach the network, from which the launcher loads ezpz, through the site's proxy; Python comes
# from the frameworks module.
export http_proxy=http://proxy.alcf.anl.gov:3128 https_proxy=http://proxy.alcf.anl.gov:3128
module load frameworks || exit 72
export FI_MR_CACHE_MONITOR=userfaultfd
