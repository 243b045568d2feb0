#!/bin/bash
# Start a Slurm cluster of one node on loopback, as root, on Debian or Ubuntu:
#   tests/cluster/start_slurm.sh [start|stop]
# Installs munge and slurm-wlm where they are absent. All files are in $SLURM_TEST_FOLDER.
set -euo pipefail

folder=${SLURM_TEST_FOLDER:-/tmp/dhmd-slurm}
export SLURM_CONF=$folder/slurm.conf

stop() {
    for name in slurmd slurmctld munged; do
        if [ -s "$folder/$name.pid" ]; then
            kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
        fi
    done
}

if [ "${1:-start}" = stop ]; then
    stop
    exit
fi

if ! command -v sbatch slurmctld slurmd munged >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends munge slurm-wlm
fi

mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
chmod 755 "$folder"
chmod 700 "$folder/munge"
[ -s "$folder/munge/key" ] || (umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
cat >"$SLURM_CONF" <<CONF
ClusterName=dhmd
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=10
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ReturnToService=2
KillWait=2
MinJobAge=2
OverTimeLimit=0
JobRequeue=1
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF

stop
sleep 1
munged --force --key-file="$folder/munge/key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
    --seed-file="$folder/munge/seed"
slurmctld -c
slurmd
for _ in $(seq 60); do
    if sinfo --noheader --format=%t 2>/dev/null | grep -qE '^(idle|mix|alloc)$'; then
        echo "export SLURM_CONF=$SLURM_CONF"
        exit
    fi
    sleep 1
done
echo "Slurm did not start: see the logs in $folder" >&2
exit 1
