#!/bin/sh
# A grid as a Slurm array: every task starts the same command, and the results directory on the
# shared file system hands out the runs. Tasks may start late, be cancelled or requeued at any time.
#
#     oodml features SOURCE --backbone NAME -o features.npz    # once, so that tasks find them cached
#     sbatch --array=0-15 examples/slurm_array.sh ladder.json -m all --seeds 5 -o results
#
#SBATCH --job-name=oodml
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --output=oodml-%A_%a.log

# TERM comes a minute before the time is up: oodml keeps the state of its runs and ends with 130.
exec oodml run "$@" --workers "${SLURM_CPUS_PER_TASK:-1}"
