#!/bin/bash
#SBATCH --job-name=tandem
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
##SBATCH --gpus-per-node=8
#SBATCH hetjob
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
##SBATCH --gpus-per-node=8
#
# Attention and FFN on different hardware, as a heterogeneous job. Above "hetjob" stand the nodes of
# the attention ranks, below it those of the FFN ranks; give each its own --partition, --constraint or
# --gpus-per-node. As written, it fits jobs/step3-4node.yaml:
#
#     sbatch slurm/hetjob.sh jobs/step3-4node.yaml [--set KEY=VALUE]...
#
# What happens at the end of the time: see one-node.sh.

TANDEM=${TANDEM:-build/tandem}
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK_HET_GROUP_0

srun --mpi=pmix --kill-on-bad-exit=1 \
    --het-group=0 "$TANDEM" run "$@" --max-restarts "${MAX_RESTARTS:-100}" --role attention : \
    --het-group=1 "$TANDEM" run "$@" --max-restarts "${MAX_RESTARTS:-100}" --role ffn &
child=$!
trap 'kill -USR1 $child' USR1
until wait $child; status=$?; ! kill -0 $child 2>/dev/null; do :; done # a signal ends wait, not the job

[ $status = 75 ] && scontrol requeue "$SLURM_JOB_ID"
exit $status
