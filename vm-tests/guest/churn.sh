# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Random changes to everything that a binding depends on, from several tasks at once, and the proof
# that it still works afterwards. On top of bound.sh. CHURN_SEED makes each task's own sequence; how
# the tasks interleave is the scheduler's.

CHURN_SEED=${WGVRF_SEED:-20261122}

churn_topology() {
	say "seed $CHURN_SEED (another one: # cmdline: WGVRF_SEED=...)"
	bound_topology
	bind_to red
	p_calls 198.51.100.1
	netns_add c
}

# churn SECONDS [PREPARE...]: four tasks. Each step of the first three is a process of its own that
# begins with PREPARE, a function: what it does to the process ends with the step.
churn() {
	local seconds=$1 end n
	shift
	for n in 1 2 3 4; do
		churn_task "$n" "$seconds" "$@" &
		CHURN_TASKS[n]=$!
	done
	end=$((SECONDS + seconds + 60 * ${WGVRF_SLOW:-1}))
	while kill -0 "${CHURN_TASKS[@]}" 2>/dev/null; do
		if [ $SECONDS -ge $end ]; then
			ps axf -o pid,stat,wchan:25,args | grep -v '\[.*\]$'
			die "a step hangs"
		fi
		sleep 0.5
	done
	for n in 1 2 3 4; do
		[ "$(cat "/tmp/churn.$n")" -gt 0 ] || die "task $n did not do a single step"
		say "task $n: $(cat "/tmp/churn.$n") steps"
	done
}

# churn_patience SECONDS: from now on a program that takes longer is killed. ip(8) waits for ever when
# the kernel cannot allocate its acknowledgement; the tool under test must not.
churn_patience() {
	CHURN_PATIENCE=$1
	: >/tmp/churn.hung
	ip() {
		local code=0
		timeout -s KILL "$CHURN_PATIENCE" ip "$@" || code=$?
		[ $code != 137 ] || echo "$*" >>/tmp/churn.hung
		return $code
	}
}

churn_patience_end() {
	unset -f ip
	! grep -F -- "$WG" /tmp/churn.hung || die "the tool hangs"
	say "killed while it waited for a lost acknowledgement: ip, $(wc -l </tmp/churn.hung) times"
}

churn_task() {
	local task=$1 end=$((SECONDS + $2)) n=0
	shift 2
	RANDOM=$((CHURN_SEED + task))
	[ "$task" != 4 ] || set --
	while [ $SECONDS -lt $end ]; do
		churn_step "$task" $((RANDOM % 8)) $((51001 + RANDOM % 3)) "$@" >/dev/null 2>&1 || true
		n=$((n + 1))
	done
	echo "$n" >"/tmp/churn.$task"
}

churn_step() (
	task=$1 choice=$2 port=$3
	shift 3
	[ $# = 0 ] || "$@"
	"churn_step$task" "$choice" "$port"
)

# The tool: bindings and ports, from the creating namespace and from another one.
churn_step1() {
	case $1 in
	0) r "$WG" set wg0 bind-dev red ;;
	1) r "$WG" set wg0 bind-dev blue ;;
	2) r "$WG" set wg0 bind-dev off ;;
	3) r "$WG" set wg0 bind-dev ext0 ;;
	4) r "$WG" set wg0 listen-port "$2" bind-dev red ;;
	5) r "$WG" set wg0 listen-port "$2" ;;
	6) ip netns exec c "$WG" set wg0 bind-dev red ;;
	7) r "$WG" show wg0 ;;
	esac
}

# The devices that are bound to: deleted, made anew, renamed, their members taken out.
churn_step2() {
	case $1 in
	0) ip -n r link del red ;;
	1 | 2) ip -n r link add red type vrf table 1001 && ip -n r link set red up && ip -n r link set ext0 master red && bound_addresses ;;
	3) ip -n r link set red name crimson ;;
	4) ip -n r link set crimson name red ;;
	5) ip -n r link del crimson ;;
	6) ip -n r link set ext0 nomaster ;;
	7) ip -n r link add blue type vrf table 1002 || ip -n r link del blue ;;
	esac
}

# The wg device: up, down, to another namespace and back.
churn_step3() {
	case $1 in
	0 | 1) ip -n r link set wg0 down ;;
	2 | 3 | 4) ip -n r link set wg0 up ;;
	5) ip -n r link set wg0 netns c && ip -n c link set wg0 up ;;
	6) ip -n c link set wg0 netns r && ip -n r link set wg0 up && ip -n r addr replace 10.9.0.1/24 dev wg0 ;;
	7) r_calls 192.0.2.9 ;;
	esac
}

# Traffic in both directions.
churn_step4() {
	p ping -n -f -c 20 -W 1 10.9.0.1
	r ping -n -f -c 20 -W 1 10.9.0.2
}

# Everything as it was, and packets pass.
churn_settle() {
	local dev name table slave
	ip -n c link set wg0 netns r 2>/dev/null || true
	for dev in red crimson blue; do
		ip -n r link del $dev 2>/dev/null || true
	done
	for dev in red:1001:ext0 blue:1002:alt0; do
		IFS=: read -r name table slave <<<"$dev"
		ip -n r link add "$name" type vrf table "$table"
		ip -n r link set "$name" up
		ip -n r link set "$slave" master "$name"
	done
	bound_addresses
	bind_to red listen-port "$RPORT"
	ip -n r addr replace 10.9.0.1/24 dev wg0
	p_calls 198.51.100.1
	restart
	works p
}
