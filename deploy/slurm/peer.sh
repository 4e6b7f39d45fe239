#!/bin/bash
# One peer of a job's swarm, as srun starts it on each node; see swarm.sbatch. It ends with
# the last round, after the founder has written the whole model to RUN/model.safetensors,
# or when the job is told to end.
set -euo pipefail

number="${SLURM_PROCID:?srun sets it}"
count="${SLURM_NTASKS:?srun sets it}"
p2pfusion="${P2PFUSION:-p2pfusion}"
port="${PORT:-7788}"
listen="${LISTEN:-0.0.0.0}"
export P2PFUSION_HOME="$RUN/peer-$number"
umask 077
mkdir -p "$P2PFUSION_HOME"
sed "s/SHARE/$number/" "$PROFILE" > "$P2PFUSION_HOME/profile.toml"

start=(start "$P2PFUSION_HOME/profile.toml" --name "peer-$number" --listen "$listen:$port")
if [ "$number" = 0 ]; then
  rm -f "$RUN/exported"
  $p2pfusion "${start[@]}" --swarm "$SWARM" --detach
  # Written under another name first: whoever sees the ticket sees all of it.
  $p2pfusion invite create --uses "$count" --expires 1d > "$RUN/ticket.new"
  mv "$RUN/ticket.new" "$RUN/ticket"
else
  until [ -s "$RUN/ticket" ]; do sleep 1; done
  $p2pfusion "${start[@]}" --join "$(cat "$RUN/ticket")" --detach
fi

end() {
  $p2pfusion stop --drain 60 || true
  exit 0
}
trap end TERM INT

# In the background, or the shell would hear of TERM only when the wait is over.
$p2pfusion wait --for done &
wait $!
if [ "$number" = 0 ]; then
  $p2pfusion export "$RUN/model.safetensors"
  touch "$RUN/exported"
else
  # Others hold parts of the model: they stay until it is written.
  until [ -e "$RUN/exported" ]; do sleep 1; done
fi
$p2pfusion stop
