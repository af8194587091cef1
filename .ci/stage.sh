# stage.sh is what the scripts beside it share: a folder, the programs they start, and waiting for these. Source it.
work=$(mktemp -d)
pids=()

# stop ends what was started, by its pid.
stop() {
	local pid
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	pids=()
}

# finish says what the programs said last when something went wrong.
finish() {
	local code=$? name
	stop
	if [ "$code" -ne 0 ]; then
		for name in "$work"/*.err; do
			[ -s "$name" ] || continue
			echo "--- what $(basename "$name" .err) said last"
			tail -n 20 "$name"
		done
	fi
	rm -rf "$work"
}
trap finish EXIT

fail() {
	printf 'NOT AS EXPECTED: %s\n' "$*"
	exit 1
}

# within TEXT COMMAND... tries a command for 15 s.
within() {
	local what=$1
	shift
	for _ in {1..150}; do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.1
	done
	fail "$what within 15 s"
}
